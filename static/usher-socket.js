/** One WebSocket, from its opening to its end: frames, replies, heartbeats. Used through
 *  usher.js. */

import {
  LONGEST_PAUSE_SECONDS, MAX_FRAME_BYTES, UsherError, misuse, redacted,
} from './usher-wire.js';

const MAX_BUFFERED_BYTES = 16 * MAX_FRAME_BYTES;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const bytes = new TextEncoder();

/** Timers by name: a new one replaces the old. */
export class Timers {
  /** @type {Map<string, any>} */ #timers = new Map();

  /** @param {string} name  @param {number} ms  @param {() => void} work */
  later(name, ms, work) {
    this.cancel(name);
    const pause = Math.min(Math.max(ms, 0), LONGEST_TIMER_MS);
    this.#timers.set(name, setTimeout(() => {
      this.#timers.delete(name);
      work();
    }, pause));
  }

  /** @param {string} name */
  has(name) { return this.#timers.has(name); }

  /** @param {string} name */
  cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  clear() {
    for (const name of [...this.#timers.keys()]) this.cancel(name);
  }
}

/**
 * @typedef {import('./usher-wire.js').End} End
 * @typedef {{resolve: Function, reject: Function, timer: any, urgent: boolean}} Waiter
 * @typedef {object} Hears
 * @property {(frame: any) => void} frame a frame that is not a reply
 * @property {(detail: import('./usher-types.js').UsherFrame) => void} passed any frame, masked
 * @property {(end: End) => void} ended called once; no call follows it
 */

/** @param {any} data  @returns {boolean} whether it is valid data of `joined` */
function isSession(data) {
  return typeof data?.user?.id === 'string' && Array.isArray(data.rooms)
    && Number.isFinite(data.expires_at);
}

/** The members of `closing` that have the right types.
 *  @param {any} data  @returns {Partial<End>} */
function wordOf(data) {
  const { code, reason, retry, after } = data ?? {};
  return {
    ...(Number.isInteger(code) && { code }),
    ...(typeof reason === 'string' && { reason }),
    ...(typeof retry === 'string' && { retry: /** @type {any} */ (retry) }),
    ...(after > 0 && Number.isFinite(after) && { after: Math.min(after, LONGEST_PAUSE_SECONDS) }),
  };
}

export class Connection {
  /** @type {WebSocket} */ #socket;
  /** @type {Map<number, Waiter>} */ #pending = new Map();
  #timers = new Timers();
  #options;
  #hears;
  #nextId = 1;
  #asked = 0; // pending requests of the page
  #heard = 0; // frames
  #opened = false;
  #over = false;
  #unanswered = false; // a heartbeat
  /** @type {Partial<End>} from the server's `closing` */ #closing = {};

  /** @param {any} options  @param {{url: string, protocols: string[], hello?: object}} opening
   *    hello: the first frame  @param {Hears} hears  @throws {UsherError} misuse */
  constructor(options, { url, protocols, hello }, hears) {
    this.#options = options;
    this.#hears = hears;
    let socket;
    try {
      socket = this.#socket = new options.WebSocket(url, protocols);
    } catch (cause) { // an invalid token, ws: from an https: page, …
      throw misuse(`This WebSocket cannot be opened: ${/** @type {any} */ (cause).message}`, cause);
    }
    socket.onopen = () => {
      this.#opened = true;
      if (hello && !this.#over) this.#write(hello);
    };
    socket.onmessage = (/** @type {MessageEvent} */ { data }) => this.#receive(data);
    // A close event has more details, but Node may not send one (undici #3546).
    socket.onerror = () => { if (!this.#over) this.#timers.later('failed', 0, () => this.#lost()); };
    socket.onclose = (/** @type {CloseEvent} */ { code, reason }) => {
      // Before the socket is open, the code is the library's: 1000 in some, 1002 in others.
      if (this.#opened) this.#end({ code, reason });
      else this.#lost();
    };
    this.#timers.later('join', options.timeoutMs,
      () => this.#end({ code: 1006, reason: 'join_timeout' }));
  }

  /** @param {string} event  @param {any} [data]  @throws {UsherError} too_big, busy */
  send(event, data) { this.#write({ event, data }); }

  /** @param {string} event  @param {any} data  @param {number} timeoutMs
   *  @param {boolean} [urgent] a request of the client itself, which is never `busy`  @returns {Promise<any>} */
  request(event, data, timeoutMs, urgent = false) {
    return new Promise((resolve, reject) => {
      if (this.#over) throw new UsherError('closed', 'The connection closed.');
      if (!urgent && this.#asked >= this.#options.maxPending) throw new UsherError('busy');
      const id = this.#nextId++;
      this.#write({ event, id, data }, urgent);
      const timer = Number.isFinite(timeoutMs) ? setTimeout(() => {
        this.#take(id)?.reject(new UsherError('timeout', `No reply to ${event} in time.`));
      }, timeoutMs) : undefined;
      this.#pending.set(id, { resolve, reject, timer, urgent });
      if (!urgent) this.#asked++;
    });
  }

  /** Sends a heartbeat. If no data is transferred for `timeoutMs`, the connection is dead, however
   *  full its send buffer is.
   *  @returns {Promise<{serverMs: number, sentAt: number, heardAt: number}>} the server's clock,
   *    and when that was by performance.now() */
  async beat() {
    const sentAt = performance.now();
    this.#unanswered = true;
    this.#awaitSign();
    const answer = await this.request('heartbeat', undefined, Infinity, true);
    this.#unanswered = false;
    const seconds = answer?.server_time;
    if (!Number.isFinite(seconds)) throw new UsherError('unknown', 'A heartbeat reply without a time.');
    return { serverMs: seconds * 1000, sentAt, heardAt: performance.now() };
  }

  /** Drops the socket without waiting for its close event, which is late on a dead network.
   *  @param {UsherError} error for pending requests */
  leave(error) {
    if (this.#over) return;
    this.#over = true;
    this.#timers.clear();
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(error);
    this.#socket.close(1000);
  }

  /** @param {End} end */
  #end(end) {
    if (this.#over) return;
    this.leave(new UsherError('closed', 'The connection closed.'));
    this.#hears.ended({ ...end, ...this.#closing });
  }

  #lost() {
    this.#end({ code: 1006, reason: this.#opened ? '' : 'unreachable' });
  }

  #awaitSign() {
    if (this.#timers.has('sign')) return;
    const heard = this.#heard;
    const waiting = this.#socket.bufferedAmount;
    this.#timers.later('sign', this.#options.timeoutMs, () => {
      if (this.#heard !== heard) {
        if (this.#unanswered) this.#awaitSign(); // other frames arrive
      } else if (this.#socket.bufferedAmount < waiting) this.#awaitSign(); // slow, but data is sent
      else this.#end({ code: 1006, reason: 'heartbeat_timeout' });
    });
  }

  /** @param {object} frame  @param {boolean} [urgent] */
  #write(frame, urgent = false) {
    const socket = this.#socket;
    const text = JSON.stringify(frame);
    const size = bytes.encode(text).length;
    if (size > MAX_FRAME_BYTES) throw new UsherError('too_big');
    if (!urgent && socket.bufferedAmount > MAX_BUFFERED_BYTES) throw new UsherError('busy');
    socket.send(text);
    this.#hears.passed({ direction: 'out', frame: redacted(text), size });
  }

  /** @param {any} text */
  #receive(text) {
    if (this.#over) return;
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {} // checked below
    if (typeof frame?.event !== 'string') {
      return this.#end({ code: 1007, reason: 'invalid_frame' });
    }
    this.#heard++;
    this.#hears.passed({ direction: 'in', frame: redacted(text), size: bytes.encode(text).length });
    if (this.#over) return; // the page closed in its listener for the frame
    if (frame.event === 'reply') return this.#settle(frame);
    if (frame.event === 'joined' && frame.room === undefined) {
      if (!isSession(frame.data)) return this.#end({ code: 1007, reason: 'invalid_frame' });
      this.#timers.cancel('join');
    }
    if (frame.event === 'closing' && frame.room === undefined) this.#closing = wordOf(frame.data);
    this.#hears.frame(frame);
  }

  /** @param {any} reply */
  #settle({ id, ok, data, error }) {
    const waiter = this.#take(id); // none: it has timed out
    if (ok) waiter?.resolve(data);
    else {
      waiter?.reject(new UsherError(error?.code ?? 'unknown', error?.message,
        { after: error?.retry_after }));
    }
  }

  /** @param {number} id  @returns {Waiter | undefined} the removed one */
  #take(id) {
    const waiter = this.#pending.get(id);
    if (!waiter) return undefined;
    this.#pending.delete(id);
    clearTimeout(waiter.timer);
    if (!waiter.urgent) this.#asked--;
    return waiter;
  }
}
