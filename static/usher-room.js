/** One room, as an app sees it. Used through usher-app.js. */

/**
 * @typedef {{id: string, name: string}} Person
 * @typedef {object} RoomMessage  what somebody said, or a backend published
 * @property {string} room
 * @property {any} data as it was given
 * @property {string} [id] grows within a room; none: published, and not kept
 * @property {Person} [from] none: a backend published it
 * @property {number} [sent_at] epoch seconds
 *
 * @typedef {RoomMessage & {event: string}} PublishedEvent
 * @typedef {{room: string, from: Person}} Typing
 * @typedef {{room: string, joined: Person[], left: Person[]}} Presence  changes to a set
 * @typedef {{room: string}} Gap  messages of the room were missed and can't be read any more
 *
 * @typedef {object} RoomEvents
 * @property {RoomMessage} message
 * @property {Typing} typing
 * @property {Presence} presence
 * @property {Gap} gap
 * @property {PublishedEvent} event anything that a backend published
 */

/** Listeners by the kind of event. An error in one does not keep an event from the others. */
export class Listeners {
  /** @type {Map<string, Set<(detail: any) => void>>} */ #by = new Map();

  /** @param {string} type  @param {(detail: any) => void} listener
   *  @returns {() => void} takes it away again */
  on(type, listener) {
    if (typeof listener !== 'function') throw new TypeError(`on(${type}): no function was given.`);
    const all = this.#by.get(type) ?? new Set();
    this.#by.set(type, all.add(listener));
    return () => { all.delete(listener); };
  }

  /** @param {string} type  @param {any} detail */
  tell(type, detail) {
    for (const listener of [...this.#by.get(type) ?? []]) {
      try {
        listener(detail);
      } catch (error) { // seen where the errors of an app are seen, and by nobody in between
        queueMicrotask(() => { throw error; });
      }
    }
  }
}

export class Room {
  #client;
  #listeners = new Listeners();

  /** @param {import('./usher.js').UsherClient} client  @param {string} id */
  constructor(client, id) {
    this.#client = client;
    /** As the wire names it: `channel:…` or `user:…`. */
    this.id = id;
  }

  /** Whether one is in it now. */
  get joined() { return this.#client.session?.rooms.includes(this.id) ?? false; }

  /** Hears what happens in the room: the events of RoomEvents, or what a backend publishes, by the
   *  name that it gave it.
   *  @template {string} T
   *  @param {T} type
   *  @param {(detail: T extends keyof RoomEvents ? RoomEvents[T] : PublishedEvent) => void} listener
   *  @returns {() => void} takes the listener away again */
  on(type, listener) { return this.#listeners.on(type, listener); }

  /** Says something to everybody in the room, oneself too.
   *  @param {any} data
   *  @returns {Promise<{id: string}>} rejects with UsherError: `forbidden`, `rate_limited` with
   *    `retryAfter`, `not_joined` while there is no connection, `too_big`, `busy`; after `timeout`,
   *    `closed` and `unavailable` it may have been said all the same */
  send(data) { return this.#ask('message', { data }); }

  /** What was said, oldest first: after the message of this id, or all that is kept.
   *  @param {{after?: string}} [options]
   *  @returns {Promise<{messages: RoomMessage[], complete: boolean, more: boolean}>} `complete`:
   *    nothing between is missing; `more`: ask again after the last one */
  history({ after } = {}) { return this.#ask('history', after === undefined ? {} : { after }); }

  /** Who is there, on every node.
   *  @returns {Promise<{users: Person[], total: number}>} 1,000 people at most; of `total` */
  presence() { return this.#ask('presence', {}); }

  /** Tells the others that one is typing; there is no event for the end of it.
   *  @throws {import('./usher-wire.js').UsherError} not_joined, busy */
  typing() { this.#client.send('typing', { room: this.id }); }

  /** Goes in again after `leave`, or where a right has come since.
   *  @returns {Promise<void>} */
  async join() { await this.#ask('join', {}); }

  /** Stays out until `join`, over reconnects too.
   *  @returns {Promise<void>} */
  async leave() { await this.#ask('leave', {}); }

  /** @param {string} event  @param {object} data  @returns {Promise<any>} */
  #ask(event, data) { return this.#client.request(event, { room: this.id, ...data }); }

  /** Hands on what concerns this room.  @param {string} type  @param {any} detail */
  tell(type, detail) { this.#listeners.tell(type, detail); }
}
