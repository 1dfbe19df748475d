/** Administration: what runs here, and who may do what. */

import { make } from '../dom.js';
import { emptyState } from '../ui.js';

/** @param {HTMLElement} element */
export function mount(element) {
  element.append(make('h1', { tabindex: '-1' }, 'Administration'),
    emptyState('Nothing here yet', 'Users, keys and webhooks show up here.'));
}
