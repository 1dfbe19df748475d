/** Settings as this node has read them. They are changed where it is started. */

import { make } from '../dom.js';
import { emptyState } from '../ui.js';
import { head, searchField, table } from './parts.js';

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context */
export async function show(place, { calls }) {
  const { items } = await calls.settings();
  const { element, body } = table(['Setting', 'Value', 'From'], 'Settings');
  const none = make('div', {});
  const given = make('input', { type: 'checkbox' });
  let words = '';

  function draw() {
    const fits = items.filter((/** @type {any} */ one) => (!given.checked || one.source !== 'default')
      && `${one.name} ${one.meaning}`.toLowerCase().includes(words));
    body.replaceChildren(...fits.map(rowOf));
    element.hidden = !fits.length;
    none.replaceChildren(...(fits.length ? [] : [emptyState('Nothing found', 'No setting fits.')]));
  }

  given.addEventListener('change', draw);
  place.append(head('Settings'), make('p', { class: 'hint' },
    'As the node that answered has read them at its start. Secrets are not shown.'),
  searchField('Search', '', (text) => { words = text.toLowerCase(); draw(); }),
  make('label', { class: 'check' }, given, ' Only those that are set'), element, none);
  draw();
}

/** @param {any} setting  @returns {HTMLElement} */
function rowOf({ name, value, secret, is_set, source, meaning }) {
  const shown = secret ? make('span', { class: 'quiet' }, is_set ? 'secret' : 'not set')
    : is_set ? make('code', {}, value ?? '') : make('span', { class: 'quiet' }, 'not set');
  const from = source === 'default' ? make('span', { class: 'quiet' }, 'default') : make('code', {}, source);
  return make('tr', {}, make('th', { scope: 'row' }, make('code', {}, name), make('p', { class: 'hint' }, meaning)),
    make('td', { class: 'admin-long' }, shown), make('td', {}, from));
}
