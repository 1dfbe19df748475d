/** Rooms: all of them, newest first; channels of the API. What is said in one is in the area Rooms. */

import { make } from '../dom.js';
import { emptyState } from '../ui.js';
import { attempt, button, head, keepInAddress, pages, searchField, table, userLinks, when } from './parts.js';

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context  @param {string[]} path
 *  @param {URLSearchParams} query */
export async function show(place, context, path, query) {
  const { app, calls } = context;
  const userOf = userLinks(context);
  let q = query.get('q') ?? '';
  const { element, body } = table(['Name', 'Who may enter', 'Owner', 'Since', 'Acts'], 'Rooms');
  const list = pages(context, {
    read: (after) => calls.channels({ q, after }),
    list: body,
    noun: 'rooms',
    empty: () => (q ? emptyState('No room found', `No name has “${q}” in it.`)
      : emptyState('No rooms', 'Users make them, and backends by the API, which calls them channels.')),
    row: ({ id, name, private: closed, owner_id, created_at, step_up }) => make('tr', {},
      make('th', { scope: 'row' }, make('a', { href: `#/rooms/${encodeURIComponent(`channel:${id}`)}` }, name)),
      make('td', {}, closed ? 'its members' : make('span', { class: 'tag' }, 'every user'),
        ...(step_up ? [' ', make('span', { class: 'tag quiet' }, 'with a fresh proof')] : [])),
      make('td', {}, owner_id ? userOf(owner_id) : 'nobody'),
      make('td', {}, when(created_at)),
      make('td', {}, button('Delete', () => attempt(app, async () => {
        if (!await app.ask({ title: `Delete the room ${name}?`, yes: 'Delete for good', danger: true,
          text: 'Everybody leaves it at once, and its messages cannot be read any more. This cannot be undone.' })) return;
        await calls.deleteChannel(id);
        app.toast(`${name} is deleted`);
        await list.load();
      }), 'plain small', name))),
  });
  list.element.prepend(element);
  place.append(head('Rooms'), searchField('Search by name', q, (text) => {
    q = text;
    keepInAddress({ q });
    attempt(app, list.load);
  }), list.element);
  await list.load();
}
