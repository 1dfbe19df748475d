/**
 * Reads the logs of many rooms at once, after a new connection. Used through usher-rooms.js.
 *
 * @typedef {import('./usher-rooms.js').Room} Room
 * @typedef {(data: object) => Promise<any>} Ask sends `history` and gives its reply's data
 * @typedef {{messages: any[], complete: boolean, more?: boolean}} Page
 */

export const ROOMS_PER_CALL = 250;
const CALLS_AT_ONCE = 4; // answers of 64 KiB: no more may wait for a slow reader (4413)
const RATE_PAUSE_MS = 4000; // the rate's burst is full again

/** The logs of rooms, read until each is done. No room waits for another: what did not fit into an
 *  answer is asked for again at once, where somebody speaks now first. */
export class Reading {
  /** @type {Map<string, string | undefined>} where each was read to, after its first page */
  #after = new Map();
  /** @type {Set<string>} rooms to ask for, and not asked for now */ #next;
  #asking = 0; // questions without an answer
  #fit = ROOMS_PER_CALL; // rooms that fit into an answer, as the last one had it
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

  /** One question. @param {string[]} names */
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

  /** Reading is what fills a socket's rate first: it makes way for what the page asks.
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

  /** A page of each by itself: this server answers no question for several.
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

  /** @param {string[]} names  @param {any} error  @returns {boolean} whether these are not read */
  #failed(names, error) {
    if (!this.#to.current()) return true; // what was held is in the log, behind what was missed
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
