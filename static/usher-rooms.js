/**
 * The rooms of a client over all its connections: which it is in, and the messages that it missed
 * while disconnected, delivered in order and once. Used through usher.js.
 *
 * @typedef {{event: string, data?: any, room?: string, id?: string}} Frame
 * @typedef {object} Room
 * @property {number} enteredAt when it was joined, by performance.now()
 * @property {number} [since] the same by the server's clock, ms
 * @property {string} [last] the id of the last delivered message
 * @property {Frame[]} [held] live messages, queued until the log has been read
 * @property {Set<string>} [read] ids that were read in the log, and may still arrive live
 * @typedef {import('./usher-reading.js').Ask} Ask
 * @typedef {import('./usher-reading.js').Page} Page
 */

import { Reading } from './usher-reading.js';

const MAX_LATE = 200; // messages that may be in the log before they arrive live
const MAX_HELD = 1000; // the length of a log: missed messages are no longer in it by then

/** The position of a frame in a room's log, if it is there. An event of a backend has `room` next
 *  to `data`, and is in the log only if it also has `id` there, whatever its data contains.
 *  @param {Frame} frame  @returns {{room: string, id: string} | null} */
function place({ event, room, id, data }) {
  if (room !== undefined) return typeof id === 'string' ? { room, id } : null;
  const whole = typeof data?.room === 'string' && typeof data.id === 'string';
  return event === 'message' && whole ? { room: data.room, id: data.id } : null;
}

/** Converts an entry of `history` to the frame that was sent live.  @param {any} entry  @returns {Frame} */
function frameOf(entry) {
  if (entry.event === undefined) return { event: 'message', data: entry };
  const { event, room, ...rest } = entry;
  return { event, room, ...rest };
}

export class Rooms {
  /** @type {Map<string, Room>} rooms whose messages must not be missed */ #rooms = new Map();
  /** @type {Set<string>} rooms that the page has left; a new socket is in them again */
  #left = new Set();
  /** @type {Set<string>} rooms that the page has joined by name; a new socket may not be in them */
  #named = new Set();
  /** @type {Set<string>} those that the current socket has not joined yet */ #awaited = new Set();
  /** @type {number | undefined} the server's clock minus performance.now(); never too large */
  #offsetMs;
  #deliver;
  #gap;

  /** @param {(frame: Frame) => void} deliver
   *  @param {(room: string) => void} gap called when messages of a room were lost */
  constructor(deliver, gap) {
    this.#deliver = deliver;
    this.#gap = gap;
  }

  /** Another user has signed in: drops the state of the previous one. */
  forget() {
    this.#rooms.clear();
    this.#left.clear();
    this.#named.clear();
    this.#awaited.clear();
  }

  // ---- membership ----------------------------------------------------------------------------

  /** A socket has joined: live messages of known rooms are queued until missed ones are read.
   *  @param {string[]} names of the server  @returns {string[]} those that the page did not leave */
  joined(names) {
    const wanted = this.wanted(names);
    for (const name of wanted) {
      const room = this.#rooms.get(name);
      if (room) Object.assign(room, { held: [], read: new Set() });
      else this.#enter(name);
    }
    return wanted;
  }

  /** The rooms that the socket is in have changed.
   *  @param {string[]} names of the server  @returns {string[]} those that the page did not leave */
  changed(names) {
    const wanted = this.wanted(names);
    const still = new Set([...wanted, ...this.#awaited]);
    for (const name of [...this.#rooms.keys()]) if (!still.has(name)) this.#drop(name);
    for (const name of wanted) if (!this.#rooms.has(name)) this.#enter(name);
    for (const name of this.#named) if (!still.has(name)) this.#named.delete(name);
    return wanted;
  }

  /** @param {string[]} names  @returns {string[]} without those that the page has left */
  wanted(names) { return this.#left.size ? names.filter((name) => !this.#left.has(name)) : names; }

  /** @param {string[]} names  @returns {string[]} those that the page has left */
  unwanted(names) { return this.#left.size ? names.filter((name) => this.#left.has(name)) : []; }

  /** @param {string[]} names that a new socket is in
   *  @returns {string[]} the others that the page has joined by name: it joins these too, and their
   *    live messages are queued until missed ones are read */
  missing(names) {
    this.#awaited = new Set([...this.#named].filter((name) => !names.includes(name)));
    for (const name of this.#awaited) {
      const room = this.#rooms.get(name);
      if (room) Object.assign(room, { held: [], read: new Set() });
    }
    return [...this.#awaited];
  }

  /** @param {string} name  @returns {boolean} whether it is still to be joined again */
  awaits(name) { return this.#awaited.has(name); }

  /** A room was joined by name. @param {string} name */
  named(name) {
    this.#named.add(name);
    this.#awaited.delete(name);
  }

  /** The page leaves a room, or may not join it again. @param {string} name */
  gone(name) {
    this.#named.delete(name);
    this.#awaited.delete(name);
    this.#drop(name);
  }

  /** The page joins or leaves rooms.
   *  @param {string} event  @param {any} data */
  asked(event, data) {
    if (event === 'join-channels') this.#left.clear();
    if (event === 'join') this.#left.delete(data?.room);
    if (event !== 'leave' || typeof data?.room !== 'string') return;
    this.#left.add(data.room);
    this.gone(data.room);
  }

  /** @param {string} name */
  #drop(name) {
    const room = this.#rooms.get(name);
    if (room) room.held = undefined; // the reader of its log notices that, and stops
    this.#rooms.delete(name);
  }

  /** @param {string} name */
  #enter(name) {
    const room = { enteredAt: performance.now() };
    this.#rooms.set(name, room);
    return this.#timed(room);
  }

  /** The server's clock, for the time when a room was joined.
   *  @param {number} offsetMs the server's clock minus performance.now(), never too large */
  clock(offsetMs) {
    this.#offsetMs = offsetMs;
    for (const room of this.#rooms.values()) this.#timed(room);
  }

  /** @param {Room} room */
  #timed(room) {
    if (this.#offsetMs !== undefined) room.since ??= room.enteredAt + this.#offsetMs;
    return room;
  }

  // ---- messages ------------------------------------------------------------------------------

  /** The server reports that messages of a room are lost, because its log was reset. @param {string} name */
  lost(name) { if (!this.#left.has(name)) this.#gap(name); }

  /** An event of the server. @param {Frame} frame */
  heard(frame) {
    const name = frame.room ?? frame.data?.room;
    if (typeof name === 'string' && this.#left.has(name)) return;
    const at = place(frame);
    if (!at) return this.#deliver(frame);
    const room = this.#rooms.get(at.room) ?? this.#enter(at.room);
    if (!room.held) return this.#live(room, at.id, frame);
    room.held.push(frame);
    if (room.held.length > MAX_HELD) {
      this.#gap(at.room);
      this.#release(room);
    }
  }

  /** @param {Room} room  @param {string} id  @param {Frame} frame */
  #live(room, id, frame) {
    if (room.read?.has(id)) return;
    room.read = undefined; // logs and sockets have the same order: none of those can arrive any more
    this.#hand(room, id, frame);
  }

  /** @param {Room} room  @param {string} id  @param {Frame} frame */
  #hand(room, id, frame) {
    room.last = id;
    this.#deliver(frame);
  }

  /** @param {Room} room */
  #release(room) {
    const { held = [], read = new Set() } = room;
    room.held = undefined;
    room.read = new Set([...read].slice(-MAX_LATE));
    for (const frame of held) {
      const { id } = /** @type {{id: string}} */ (place(frame));
      if (!read.has(id)) this.#hand(room, id, frame);
    }
  }

  /** Reads the missed messages of all waiting rooms: many in each request, several at once.
   *  @param {Ask} ask over the socket that has just joined
   *  @param {() => boolean} current whether it is still the current one
   *  @param {string} [only] the room that was joined by name just now */
  catchUp(ask, current, only) {
    const waiting = [...this.#rooms].filter(([name, room]) => room.held
      && (only === undefined ? !this.#awaited.has(name) : name === only));
    new Reading(new Map(waiting), {
      ask, current,
      page: (name, room, page, first) => this.#take(name, room, page, first),
      gap: this.#gap,
      done: (room) => this.#release(room),
    }).go();
  }

  /** @param {string} name  @param {Room} room  @param {Page} page  @param {boolean} first */
  #take(name, room, { messages, complete }, first) {
    const { last, since = 0 } = room;
    // For a room without a received message, the log is read from its beginning: messages from
    // before the join are skipped, and an incomplete log that reaches back to the join is enough.
    const old = (/** @type {any} */ entry) => last === undefined && entry.sent_at * 1000 < since;
    if (first && !complete && !(messages.length && old(messages[0]))) this.#gap(name);
    for (const entry of messages) {
      if (!room.held) return; // the page closed or left the room in its listener for the previous one
      room.read?.add(entry.id);
      if (!old(entry)) this.#hand(room, entry.id, frameOf(entry));
    }
  }
}
