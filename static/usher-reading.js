/**
 * Reads the histories of many rooms at once after a new connection. Used through usher-rooms.js.
 *
 * @typedef {import('./usher-rooms.js').Room} Room
 * @typedef {(data: object) => Promise<any>} Ask sends `history`, returns the data of the reply
 * @typedef {{messages: any[], complete: boolean, more?: boolean}} Page
 */

export const ROOMS_PER_CALL = 250;
const CALLS_AT_ONCE = 4; // replies of 64 KiB: more may not be queued for a slow reader (4413)
const RATE_PAUSE_MS = 4000; // the burst of the message rate is available again

/** Reads the histories until each is complete. No room waits for another: what did not fit into a
 *  reply is requested again at once, rooms with live messages first. */
export class Reading {
  /** @type {Map<string, string | undefined>} the last id read of each, after its first page */
  #after = new Map();
  /** @type {Set<string>} rooms that are still to be requested */ #next;
  #asking = 0; // requests without a reply
  #fit = ROOMS_PER_CALL; // how many rooms fitted into the last reply
  #rooms;
  #to;

  /** @param {Map<string, Room>} rooms
   *  @param {{ask: Ask, current: () => boolean, gap: (name: string) => void,
   *    page: (name: string, room: Room, page: Page, first: boolean) => void,
   *    done: (room: Room) => void}} to */
  constructor(rooms, to) {
    this.#rooms = rooms;
    this.#to = to;
    this.#next = new Set(rooms.keys());
  }

  go() {
    while (this.#next.size && this.#asking < CALLS_AT_ONCE && this.#to.current()) {
      const first = [...this.#next].sort((a, b) => this.#held(b) - this.#held(a));
      const names = first.slice(0, this.#fit);
      for (const name of names) this.#next.delete(name);
      this.#asking++;
      this.#read(names).then(() => {
        this.#asking--;
        for (const name of names) if (this.#rooms.has(name)) this.#next.add(name);
        this.go();
      });
    }
  }

  /** Sends one request. @param {string[]} names */
  async #read(names) {
    let answered = 0;
    try {
      const { rooms } = await this.#ask({ rooms: names.map((name) => this.#question(name)) });
      if (!this.#to.current()) return;
      for (const part of rooms) answered += this.#part(part);
    } catch (error) {
      if (this.#failed(names, error)) return;
    }
    if (!answered) return this.#oneByOne(names);
    const all = answered === names.length;
    this.#fit = all ? Math.min(ROOMS_PER_CALL, 2 * this.#fit) : answered;
  }

  /** @param {Page & {room: string, error?: {code: string}}} part  @returns {number} 1 */
  #part({ room: name, error, ...page }) {
    if (!this.#rooms.has(name)) return 1;
    if (!error) this.#page(name, page);
    else this.#refused(name, error.code);
    return 1;
  }

  /** Reading would use up the socket's message rate, so it yields to requests of the page.
   *  @param {object} question */
  async #ask(question) {
    for (;;) {
      try {
        return await this.#to.ask(question);
      } catch (error) {
        const { code, after = 0 } = /** @type {any} */ (error);
        if (code !== 'rate_limited' || !this.#to.current()) throw error;
        await new Promise((go) => { setTimeout(go, Math.max(RATE_PAUSE_MS, after * 1000)); });
        if (!this.#to.current()) throw error;
      }
    }
  }

  /** Requests a page of each room separately, for servers without requests for several rooms.
   *  @param {string[]} names */
  async #oneByOne(names) {
    for (const name of names) {
      try {
        const page = await this.#ask(this.#question(name));
        if (!this.#to.current()) return;
        this.#page(name, page);
      } catch (error) {
        if (!this.#to.current()) return;
        if (!this.#failed([name], error)) this.#refused(name, /** @type {any} */ (error).code);
      }
    }
  }

  /** @param {string} name  @param {string} code */
  #refused(name, code) {
    if (code !== 'forbidden') this.#to.gap(name);
    this.#finish(name);
  }

  /** @param {string} name */
  #held(name) { return this.#rooms.get(name)?.held?.length ?? 0; }

  /** @param {string} name */
  #question(name) {
    const after = this.#after.get(name) ?? this.#rooms.get(name)?.last;
    return after === undefined ? { room: name } : { room: name, after };
  }

  /** @param {string} name  @param {Page} page */
  #page(name, page) {
    const room = /** @type {Room} */ (this.#rooms.get(name));
    this.#to.page(name, room, page, !this.#after.has(name));
    this.#after.set(name, page.messages.at(-1)?.id ?? this.#after.get(name));
    if (!page.more || !page.messages.length || !room.held) this.#finish(name);
  }

  /** @param {string[]} names  @param {any} error  @returns {boolean} whether to stop reading these */
  #failed(names, error) {
    if (!this.#to.current()) return true; // queued messages are in the history, after the missed ones
    if (error.code !== 'unavailable' && error.code !== 'timeout') return false;
    for (const name of names) {
      this.#to.gap(name);
      this.#finish(name);
    }
    return true;
  }

  /** @param {string} name */
  #finish(name) {
    const room = this.#rooms.get(name);
    this.#rooms.delete(name);
    if (room) this.#to.done(room);
  }
}
