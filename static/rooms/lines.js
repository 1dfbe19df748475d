/** The lines of a conversation: messages with authors and days, and what stands between them. */

import { make } from '../dom.js';

const TOGETHER_SECONDS = 300;

/** The text of a message, or null where it is something else.
 *  @param {import('./store.js').Message} message  @returns {string|null} */
export function textOf({ event, data }) {
  if (event !== undefined) return null;
  if (typeof data === 'string') return data;
  const names = data && typeof data === 'object' && !Array.isArray(data) ? Object.keys(data) : [];
  return names.length === 1 && typeof data.text === 'string' ? data.text : null;
}

/** @param {Date} date  @returns {string} */
function dayOf(date) {
  const today = new Date();
  const yesterday = new Date();
  yesterday.setDate(today.getDate() - 1);
  if (date.toDateString() === today.toDateString()) return 'Today';
  if (date.toDateString() === yesterday.toDateString()) return 'Yesterday';
  return date.toLocaleDateString(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
}

/** @param {string} kind  @param {string} text  @returns {HTMLElement} */
const between = (kind, text) => make('li', { class: `between ${kind}` }, make('span', {}, text));

/** @param {number} count  @returns {string} */
const awayText = (count) => (count === 1 ? '1 message while you were away'
  : `${count} messages while you were away`);

/** @param {import('./store.js').Message} message  @param {boolean} first of several by one author
 *  @param {boolean} mine  @returns {HTMLElement} */
function messageLine(message, first, mine) {
  const { from, event, data, sent_at: at } = message;
  const text = textOf(message);
  const body = text !== null ? make('p', { class: 'said' }, text)
    : make('pre', { class: 'said code', tabindex: '0', 'aria-label': 'Data' }, JSON.stringify(data, null, 2) ?? 'null');
  const author = event === undefined ? from?.name ?? 'Your backend' : 'Your backend';
  const when = at === undefined ? [] : [make('time', { datetime: new Date(at * 1000).toISOString(),
    title: new Date(at * 1000).toLocaleString() },
  new Date(at * 1000).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' }))];
  const head = first ? [make('p', { class: 'by' }, make('strong', {}, author),
    ...(mine ? [make('span', { class: 'unseen' }, ' (you)')] : []),
    ...(event === undefined ? [] : [make('span', { class: 'tag quiet' }, event)]), ...when)]
    : [make('p', { class: 'unseen' }, `${author}:`)];
  return make('li', { class: `line${first ? ' first' : ''}${mine ? ' mine' : ''}` }, ...head, body);
}

/** @type {WeakMap<object, number>} */ const numbers = new WeakMap();
let lastNumber = 0;

/** A number of its own for each message: one of a backend may have no id.
 *  @param {object} message  @returns {number} */
function numberOf(message) {
  const known = numbers.get(message);
  if (known !== undefined) return known;
  numbers.set(message, ++lastNumber);
  return lastNumber;
}

/** What is to be shown, without the elements: a thousand lines are gone through for each message
 *  that comes, and almost all of them are there already.
 *
 *  @typedef {{key: string, element: () => HTMLElement}} Shown `key`: the same where the line is
 *  @param {import('./store.js').RoomState} state  @param {string} me  @returns {Shown[]} */
export function linesOf(state, me) {
  /** @type {Shown[]} */ const found = [];
  const put = (/** @type {string} */ kind, /** @type {string} */ text) => (
    found.push({ key: `${kind} ${text}`, element: () => between(kind, text) }));
  if (!state.complete) put('gap', 'Earlier messages are not kept');
  let day = '';
  let author = '';
  let last = -Infinity;
  for (const line of state.lines) {
    if (line.kind !== 'message') {
      if (line.kind === 'gap') put('gap', 'Messages were missed here, and cannot be read any more');
      else put('away', awayText(line.count));
      author = '';
      continue;
    }
    const { message } = line;
    const at = message.sent_at;
    if (at !== undefined && dayOf(new Date(at * 1000)) !== day) {
      day = dayOf(new Date(at * 1000));
      put('day', day);
      author = '';
    }
    if (state.firstUnread && message.id === state.firstUnread) {
      put('new', 'New');
      author = '';
    }
    const by = message.event ?? message.from?.id ?? '';
    const first = by !== author || (at ?? 0) - last > TOGETHER_SECONDS;
    author = by;
    last = at ?? last;
    found.push({ key: `${numberOf(message)}${first ? ' first' : ''}`,
      element: () => messageLine(message, first, message.from?.id === me) });
  }
  return found;
}
