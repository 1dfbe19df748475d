/** A room in an app. Used through usher-app.js. */

/**
 * @typedef {{id: string, name: string}} Person
 * @typedef {object} RoomMessage  a message of a user, or an event that a backend published
 * @property {string} room
 * @property {any} data as it was sent
 * @property {string} [id] increases within a room; absent: published, and not in the history
 * @property {Person} [from] absent: a backend published it
 * @property {number} [sent_at] epoch seconds
 *
 * @typedef {RoomMessage & {event: string}} PublishedEvent
 * @typedef {{room: string, from: Person}} Typing
 * @typedef {{room: string, joined: Person[], left: Person[]}} Presence  since the last event
 * @typedef {{room: string}} Gap  messages of the room were missed and are not in the history
 *
 * @typedef {object} RoomEvents
 * @property {RoomMessage} message
 * @property {Typing} typing
 * @property {Presence} presence
 * @property {Gap} gap
 * @property {PublishedEvent} event anything that a backend published
 */

/** Listeners by the kind of event. An error in one does not affect the others. */
export class Listeners {
  /** @type {Map<string, Set<(detail: any) => void>>} */ #by = new Map();

  /** @param {string} type  @param {(detail: any) => void} listener
   *  @returns {() => void} removes it */
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
      } catch (error) { // reported like any other error of the app
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
    /** `channel:…` or `user:…`. */
    this.id = id;
  }

  /** Whether the socket is in the room now. */
  get joined() { return this.#client.session?.rooms.includes(this.id) ?? false; }

  /** Adds a listener for the events of RoomEvents, or for events that a backend publishes, by their
   *  name.
   *  @template {string} T
   *  @param {T} type
   *  @param {(detail: T extends keyof RoomEvents ? RoomEvents[T] : PublishedEvent) => void} listener
   *  @returns {() => void} removes the listener */
  on(type, listener) { return this.#listeners.on(type, listener); }

  /** Sends a message to everybody in the room, including the sender.
   *  @param {any} data
   *  @returns {Promise<{id: string}>} rejects with UsherError: `forbidden`, `rate_limited` with
   *    `retryAfter`, `not_joined` while there is no connection, `too_big`, `busy`; after `timeout`,
   *    `closed` and `unavailable` it may have been sent */
  send(data) { return this.#ask('message', { data }); }

  /** The history, oldest first: after the message with this id, or all of it.
   *  @param {{after?: string}} [options]
   *  @returns {Promise<{messages: RoomMessage[], complete: boolean, more: boolean}>} `complete`:
   *    no message in between is missing; `more`: there are others after the last one */
  history({ after } = {}) { return this.#ask('history', after === undefined ? {} : { after }); }

  /** The users in the room, on all nodes.
   *  @returns {Promise<{users: Person[], total: number}>} at most 1,000 users, and their number */
  presence() { return this.#ask('presence', {}); }

  /** Notifies the others that the user is typing. There is no event when they stop.
   *  @throws {import('./usher-wire.js').UsherError} not_joined, busy */
  typing() { this.#client.send('typing', { room: this.id }); }

  /** Joins the room, and again after each reconnect. Needed after `leave`, after the right was
   *  granted, and for open channels beyond MAX_JOINED_OPEN_CHANNELS, which no socket joins by itself.
   *  @returns {Promise<void>} */
  async join() { await this.#ask('join', {}); }

  /** Leaves the room until `join`, also after reconnects.
   *  @returns {Promise<void>} */
  async leave() { await this.#ask('leave', {}); }

  /** @param {string} event  @param {object} data  @returns {Promise<any>} */
  #ask(event, data) { return this.#client.request(event, { room: this.id, ...data }); }

  /** Dispatches an event of this room.  @param {string} type  @param {any} detail */
  tell(type, detail) { this.#listeners.tell(type, detail); }
}
