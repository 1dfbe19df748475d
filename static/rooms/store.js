/** What the page knows of its rooms: names, messages, who is here, what is unread. No elements.
 *
 * @typedef {{id: string, name: string}} Person
 * @typedef {{id?: string, from?: Person, data?: any, event?: string, sent_at?: number}} Message
 * @typedef {{kind: 'message', message: Message} | {kind: 'gap'} | {kind: 'away', count: number}} Line
 * @typedef {{id: string, name: string, private: boolean, owner_id: string|null, right: string,
 *   step_up: boolean}} Channel
 */

import { inOrder } from '../dom.js';

const MAX_LINES = 1000; // as many as the server keeps of a room
const TYPING_MS = 6000;
const PAGES = 5; // of 100 channels each

/** Sorts ids of messages: two numbers, compared as such.  @param {string} a  @param {string} b */
export function idOrder(a, b) {
  const [x, m] = a.split('-').map(Number);
  const [y, n] = b.split('-').map(Number);
  return x - y || m - n;
}

export class RoomState {
  /** @type {Line[]} oldest first */ lines = [];
  /** @type {Map<string, Person>} by id: somebody with several sockets is here once */ here = new Map();
  /** @type {Map<string, {name: string, until: number}>} */ typing = new Map();
  unread = 0;
  total = 0;
  /** The id of the first message that was unread when the room was last opened. */ firstUnread = '';
  read = false; // whether the history was read
  complete = true; // whether nothing of before is missing
  /** When the line was down last, epoch seconds.  @type {{since: number, until: number}|undefined} */ away;
  /** @type {{kind: 'away', count: number}|undefined} */ awayLine;
  #known = new Set();

  /** @param {Channel} channel */
  constructor(channel) { this.channel = channel; }

  /** @param {Message} message  @returns {boolean} whether it is new */
  add(message) {
    const { id } = message;
    if (id !== undefined) {
      if (this.#known.has(id)) return false;
      this.#known.add(id);
    }
    if (message.from) this.typing.delete(message.from.id);
    let at = this.lines.length;
    if (id !== undefined) {
      while (at > 0 && this.#after(this.lines[at - 1], id)) at -= 1;
    }
    this.lines.splice(at, 0, { kind: 'message', message });
    if (this.lines.length > MAX_LINES) this.#forget(this.lines.shift());
    return true;
  }

  /** @param {Line} line  @param {string} id */
  #after(line, id) {
    return line.kind === 'message' && line.message.id !== undefined && idOrder(line.message.id, id) > 0;
  }

  /** @param {Line|undefined} line */
  #forget(line) {
    if (line?.kind === 'message') this.#known.delete(line.message.id);
  }

  /** Messages were lost: ids of before say nothing of those to come. */
  gap() {
    this.#known.clear();
    if (this.lines.at(-1)?.kind !== 'gap') this.lines.push({ kind: 'gap' });
  }

  /** @param {number} now ms  @returns {string[]} names of those who type */
  typists(now) {
    for (const [id, { until }] of this.typing) if (until <= now) this.typing.delete(id);
    return [...this.typing.values()].map(({ name }) => name);
  }
}

/** Emits `change` with {room} for one room, and `list` when rooms come, go or get a new name. */
export class RoomStore extends EventTarget {
  #asked = inOrder();
  /** @type {Map<string, RoomState>} by the name of the room */ rooms = new Map();
  #ended = new AbortController();
  #lostAt = 0;
  /** @type {Set<string>} rooms that the socket was in when it was last looked at */ #entered = new Set();
  /** @type {string} the room that is looked at */ open = '';
  /** @type {() => boolean} whether somebody looks at it now */ looking = () => false;

  /** @param {import('../app.js').App} app */
  constructor(app) {
    super();
    this.app = app;
    this.client = app.client;
    const { signal } = this.#ended;
    this.client.addEventListener('state', (/** @type {any} */ { detail }) => this.#onState(detail), { signal });
    this.client.addEventListener('event', (/** @type {any} */ { detail }) => this.#onEvent(detail), { signal });
    this.client.addEventListener('gap', (/** @type {any} */ { detail }) => this.#onGap(detail.room), { signal });
  }

  stop() { this.#ended.abort(); }

  /** Reads the names of the channels. Those that are gone are left out. */
  async load() {
    const isNewest = this.#asked();
    const found = await this.#channels();
    if (!isNewest()) return;
    const seen = new Set();
    for (const channel of found) {
      const room = `channel:${channel.id}`;
      seen.add(room);
      const state = this.rooms.get(room);
      if (state) state.channel = channel;
      else this.rooms.set(room, new RoomState(channel));
    }
    for (const room of [...this.rooms.keys()]) if (!seen.has(room)) this.rooms.delete(room);
    this.dispatchEvent(new Event('list'));
  }

  /** @returns {Promise<Channel[]>} */
  async #channels() {
    const all = [];
    let after = '';
    for (let page = 0; page < PAGES; page++) {
      const query = after ? `&after=${encodeURIComponent(after)}` : '';
      const { items, next } = await this.app.api.call('GET', `/api/channels?limit=100${query}`);
      all.push(...items);
      if (!next) break;
      after = next;
    }
    return all;
  }

  /** Whether the socket is in the room.  @param {string} room */
  joined(room) { return this.client.session?.rooms.includes(room) ?? false; }

  /** @returns {[string, RoomState][]} by name */
  sorted() {
    const { compare } = new Intl.Collator(undefined, { numeric: true });
    return [...this.rooms].sort(([, a], [, b]) => compare(a.channel.name, b.channel.name));
  }

  /** Reads the history and who is here.  @param {string} room */
  async enter(room) {
    const state = this.rooms.get(room);
    if (!state || !this.joined(room)) return;
    if (!state.read) {
      state.read = true;
      try {
        await this.#history(room, state);
      } catch (error) {
        state.read = false;
        throw error;
      } finally {
        this.#changed(room);
      }
    }
    const { users, total } = await this.client.request('presence', { room });
    state.here = new Map(users.map((/** @type {Person} */ person) => [person.id, person]));
    state.total = total;
    this.#changed(room);
  }

  /** @param {string} room  @param {RoomState} state */
  async #history(room, state) {
    let after;
    for (let more = true; more;) {
      const page = await this.client.request('history', after === undefined ? { room } : { room, after });
      for (const message of page.messages) state.add(message);
      if (after === undefined) state.complete = page.complete;
      after = page.messages.at(-1)?.id;
      more = page.more && after !== undefined;
    }
  }

  /** What was unread is read now.  @param {string} room */
  seen(room) {
    const state = this.rooms.get(room);
    if (!state?.unread) return;
    state.unread = 0;
    this.dispatchEvent(new Event('list'));
  }

  /** @param {import('../usher-types.js').UsherState} state */
  #onState(state) {
    if (state.name !== 'joined') {
      if (!this.#lostAt) this.#lostAt = Date.now() / 1000;
      this.dispatchEvent(new Event('list'));
      return;
    }
    const away = this.#lostAt;
    this.#lostAt = 0;
    if (away) this.#back(away);
    const now = new Set(this.client.session?.rooms);
    const came = [...now].some((room) => room.startsWith('channel:') && !this.rooms.has(room));
    const went = [...this.#entered].some((room) => !now.has(room) && this.rooms.has(room));
    this.#entered = now;
    if (came || went) this.load().catch(() => {}); // the list stays as it is; the next change tries again
    this.dispatchEvent(new Event('list'));
    if (this.open) this.enter(this.open).catch(() => {});
  }

  /** The line is back: what was missed comes in order, and is counted.  @param {number} since */
  #back(since) {
    for (const state of this.rooms.values()) {
      state.typing.clear();
      state.away = { since, until: Date.now() / 1000 };
      state.awayLine = undefined;
    }
  }

  /** @param {any} frame */
  #onEvent(frame) {
    const { event, data } = frame;
    if (frame.room !== undefined) { // published by a backend
      const { room, id, sent_at } = frame;
      this.#take(room, { id, event, data, sent_at });
      return;
    }
    const state = this.rooms.get(data?.room);
    if (!state) return;
    if (event === 'message') this.#take(data.room, data);
    if (event === 'typing') {
      state.typing.set(data.from.id, { name: data.from.name, until: Date.now() + TYPING_MS });
      this.#changed(data.room);
    }
    if (event === 'presence') this.#moved(state, data);
  }

  /** @param {RoomState} state  @param {{room: string, joined: Person[], left: Person[]}} data */
  #moved(state, { room, joined, left }) {
    for (const person of left) state.here.delete(person.id);
    for (const person of joined) state.here.set(person.id, person);
    state.total = Math.max(state.here.size, state.total + joined.length - left.length);
    this.#changed(room);
  }

  /** @param {string} room  @param {Message} message */
  #take(room, message) {
    const state = this.rooms.get(room);
    if (!state) return;
    const { away } = state;
    const missed = away && (message.sent_at ?? 0) > away.since - 1 && (message.sent_at ?? 0) < away.until + 1;
    if (missed) this.#count(state);
    else state.away = undefined;
    if (!state.add(message)) return;
    const mine = message.from?.id === this.app.user?.id;
    if (!mine && !(room === this.open && this.looking())) {
      if (!state.unread) state.firstUnread = message.id ?? '';
      state.unread += 1;
      this.dispatchEvent(new Event('list'));
    }
    this.#changed(room);
  }

  /** @param {RoomState} state */
  #count(state) {
    const line = state.awayLine;
    if (line && state.lines.includes(line)) line.count += 1;
    else state.lines.push(state.awayLine = { kind: 'away', count: 1 });
  }

  /** @param {string} room */
  #onGap(room) {
    this.rooms.get(room)?.gap();
    this.#changed(room);
  }

  /** @param {string} room */
  #changed(room) { this.dispatchEvent(new CustomEvent('change', { detail: { room } })); }
}
