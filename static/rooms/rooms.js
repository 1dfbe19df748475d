/** Rooms: where people talk. */

import { make } from '../dom.js';
import { emptyState } from '../ui.js';

/** @param {HTMLElement} element */
export function mount(element) {
  element.append(make('h1', { tabindex: '-1' }, 'Rooms'),
    emptyState('No rooms yet', 'Rooms that you may enter show up here.'));
}
