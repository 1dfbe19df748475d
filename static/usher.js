/**
 * usher.js: keeps one authenticated WebSocket to an Usher server alive.
 *
 *     import { UsherClient } from './usher.js';
 *     const usher = new UsherClient();
 *     usher.addEventListener('message', ({ detail }) => console.log(detail.data));
 *     const { user } = await usher.connect();
 *     await usher.request('presence', { room: `user:${user.id}` });
 *
 * In a browser it lives from the HttpOnly cookies: it fetches a single-use ticket for each
 * connection and each renewal. With `getToken` it uses a native client's access token.
 * No dependencies. Browsers, Node >= 22; on Node 20 pass `WebSocket` (the `ws` package's).
 *
 * Its own events (CustomEvent):
 *   state   detail: UsherState, at every change
 *   frame   detail: UsherFrame, every frame both ways, secrets masked
 *   event   detail: ServerEvent, every event of the server
 *   gap     detail: {room}, messages of a room were missed and can't be read any more
 * Each event of the server is also dispatched under its own name (`joined`, `message`,
 * `typing`, `presence`, `access-changed`, `closing`, …) unless that is one of the four above.
 * After a reconnect each `message` that was missed comes first, in order and once (`history`).
 *
 * @typedef {{code: number, reason: string, retry: import('./usher-wire.js').RetryClass}} Why
 *   why a connection ended
 * @typedef {{id: string, name: string, role: string}} User
 * @typedef {{session_id: string, user: User, rooms: string[], expires_at: number}} Session
 *   expires_at: epoch seconds by the server's clock; see `expiresIn`
 * @typedef {{event: string, data?: any, room?: string}} ServerEvent
 * @typedef {{resolve: Function, reject: Function}} Deferred
 * @typedef {{direction: 'in'|'out', frame: any, size: number}} UsherFrame  size in bytes
 * @typedef {{name: 'idle'}
 *   | {name: 'connecting', attempt: number}
 *   | {name: 'joined', session: Session}
 *   | {name: 'refreshing', live: boolean}
 *   | ({name: 'waiting', retryAt: number, attempt: number, offline: boolean} & Why)
 *   | ({name: 'closed'} & Why)} UsherState  retryAt: epoch milliseconds by this machine's clock
 *
 * @typedef {object} UsherOptions
 * @property {string} [baseUrl] the server; default: the page's own origin
 * @property {(want: {renew: boolean}) => Promise<string>} [getToken] an access token instead of
 *   cookies; `renew` asks for a newer one than the last. An error with `status: 401` means that
 *   the user has to sign in; any other is tried again.
 * @property {'subprotocol'|'user-join'} [present] how a token from getToken is presented
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [heartbeatMs] mean pause between heartbeats, ± 20 %; 12,500
 * @property {number} [timeoutMs] for a request, an HTTP call, and from open to joined; 10,000
 * @property {number} [backoffMs] ceiling of the first pause, doubled each time; 500
 * @property {number} [maxBackoffMs] highest ceiling; 30,000
 * @property {number} [maxPending] requests that may wait for a reply at once; 256
 */

import { CookieLogin } from './usher-login.js';
import { RoomLogs } from './usher-rooms.js';
import { MAX_FRAME_BYTES, PROTOCOL, RETRY, UsherError, endOf, redacted } from './usher-wire.js';

export { MAX_FRAME_BYTES, PROTOCOL, RETRY, UsherError };

const DEFAULTS = {
  present: 'subprotocol', heartbeatMs: 12_500, timeoutMs: 10_000,
  backoffMs: 500, maxBackoffMs: 30_000, maxPending: 256,
};
const OWN_EVENTS = new Set(['state', 'frame', 'event', 'gap']);
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const RENEW_AHEAD_MS = 45_000; // the server says token-expiring 60 s ahead; this is the backstop
const bytes = new TextEncoder();

export class UsherClient extends EventTarget {
  /** @type {any} */ #options;
  /** @type {CookieLogin} */ #login;
  /** @type {RoomLogs} */ #rooms;
  #userId = '';
  /** @type {WebSocket|null} */ #socket = null;
  /** @type {UsherState} */ #state = { name: 'idle' };
  /** @type {Session|null} */ #session = null;
  /** @type {Map<number, Deferred & {timer: any}>} */ #pending = new Map();
  /** @type {Map<string, any>} */ #timers = new Map();
  /** @type {(Deferred & {promise: Promise<Session>})|null} */ #running = null;
  /** @type {any} */ #closing = null; // the server's own word before it closes
  /** @type {WebSocket|null} */ #renewing = null;
  #stale = false; // the next attempt needs a newer token
  #attempt = 0;
  #flight = 0; // counts attempts, so that an overtaken one notices
  #nextId = 1;
  #skewMs = 0; // the server's clock minus ours

  /** @param {UsherOptions} [options] */
  constructor(options = {}) {
    super();
    const { location, WebSocket, fetch } = globalThis;
    this.#options = { baseUrl: location?.origin, WebSocket, fetch, ...DEFAULTS, ...options };
    this.#login = new CookieLogin(this.#options);
    this.#rooms = new RoomLogs(
      (data) => this.request('history', data),
      (frame) => this.#hand(frame),
      (room) => this.#emit('gap', { room }),
      () => this.#session !== null,
    );
  }

  /** @returns {UsherState} */
  get state() { return this.#state; }

  /** @returns {Session|null} the session while joined */
  get session() { return this.#session; }

  /** @returns {number|null} seconds until the session's token expires, by the server's clock */
  get expiresIn() {
    return this.#session && this.#session.expires_at - (Date.now() + this.#skewMs) / 1000;
  }

  /** Connects and stays connected until `close()` or a close code that forbids it.
   *  While waiting for the next attempt, it starts that attempt now.
   *  @returns {Promise<Session>} at the first join; rejects with UsherError (`why`) if given up */
  connect() {
    let running = this.#running;
    if (!running) {
      running = this.#running = deferred();
      this.#attempt = 0;
      globalThis.addEventListener?.('online', this.#onNetwork);
      globalThis.addEventListener?.('offline', this.#onNetwork);
      this.#open();
    } else if (this.#state.name === 'waiting') this.#open();
    return running.promise;
  }

  /** Closes the socket for good. */
  close() {
    if (this.#running) this.#finish({ code: 1000, reason: 'closed_by_client', retry: 'never' });
  }

  /** Sends an event and asks for no reply.
   *  @param {string} event  @param {any} [data]  @throws {UsherError} not_joined, too_big, busy */
  send(event, data) {
    if (!this.#session) throw new UsherError('not_joined');
    this.#write({ event, data });
  }

  /** Sends an event and waits for its reply.
   *  @param {string} event  @param {any} [data]  @param {{timeoutMs?: number}} [options]
   *  @returns {Promise<any>} the reply's data; rejects with UsherError: the server's code, or
   *    not_joined, too_big, busy, timeout, closed */
  request(event, data, { timeoutMs = this.#options.timeoutMs } = {}) {
    return new Promise((resolve, reject) => {
      if (!this.#session) throw new UsherError('not_joined');
      if (this.#pending.size >= this.#options.maxPending) throw new UsherError('busy');
      const id = this.#nextId++;
      this.#write({ event, id, data });
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new UsherError('timeout', `No reply to ${event} in time.`));
      }, timeoutMs);
      this.#pending.set(id, { resolve, reject, timer });
    });
  }

  /** Renews the login cookies, one flight at a time across all tabs.
   *  @returns {Promise<void>} rejects with UsherError; status 401: sign in again */
  refresh() { return this.#login.refresh(); }

  /** @param {boolean} renew  @returns {Promise<string>} a ticket, or the token of getToken */
  async #credential(renew) {
    const { getToken } = this.#options;
    if (getToken) return getToken({ renew });
    if (renew) await this.refresh();
    return this.#login.ticket();
  }

  async #open() {
    const flight = ++this.#flight;
    this.#cancel('retry');
    const renew = this.#stale;
    this.#setState(renew ? { name: 'refreshing', live: false }
      : { name: 'connecting', attempt: this.#attempt });
    try {
      const credential = await this.#credential(renew);
      if (flight !== this.#flight) return;
      this.#stale = false;
      this.#attach(credential);
    } catch (error) {
      if (flight === this.#flight) this.#ended(endOf(error));
    }
  }

  /** @param {string} credential */
  #attach(credential) {
    const { baseUrl, getToken, present, WebSocket, timeoutMs } = this.#options;
    const url = new URL('/ws', baseUrl);
    url.protocol = url.protocol.replace('http', 'ws');
    const protocols = [PROTOCOL];
    if (!getToken) url.searchParams.set('ticket', credential);
    else if (present === 'subprotocol') protocols.push(`usher.bearer.${credential}`);
    const socket = new WebSocket(url.href, protocols);
    this.#socket = socket;
    this.#closing = null;
    const current = () => this.#socket === socket;
    socket.onopen = () => {
      if (current() && getToken && present === 'user-join') {
        this.#write({ event: 'user-join', data: { auth: { token: credential } } });
      }
    };
    socket.onmessage = (/** @type {MessageEvent} */ { data }) => current() && this.#receive(data);
    socket.onerror = () => { // a close event says more, but Node may send none (undici #3546)
      if (current()) this.#later('failed', 0, () => this.#ended({ code: 1006, reason: '' }));
    };
    socket.onclose = (/** @type {CloseEvent} */ { code, reason }) => {
      if (current()) this.#ended({ code, reason });
    };
    this.#later('join', timeoutMs, () => this.#ended({ code: 1006, reason: 'join_timeout' }));
  }

  /** @param {object} frame */
  #write(frame) {
    const socket = /** @type {WebSocket} */ (this.#socket);
    const text = JSON.stringify(frame);
    const size = bytes.encode(text).length;
    if (size > MAX_FRAME_BYTES) throw new UsherError('too_big');
    if (socket.bufferedAmount > 16 * MAX_FRAME_BYTES) throw new UsherError('busy');
    socket.send(text);
    this.#emit('frame', { direction: 'out', frame: redacted(text), size });
  }

  /** @param {any} text */
  #receive(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {} // told apart below
    if (typeof frame?.event !== 'string') {
      return this.#ended({ code: 1007, reason: 'invalid_frame' });
    }
    const size = bytes.encode(text).length;
    this.#emit('frame', { direction: 'in', frame: redacted(text), size });
    if (frame.event === 'reply') return this.#settle(frame);
    if (frame.event === 'joined') this.#joined(frame.data);
    if (frame.event === 'closing') this.#closing = frame.data;
    if (frame.event === 'token-expiring') this.#renew();
    if (frame.event === 'access-changed') {
      this.#rooms.entered(frame.data.rooms, Date.now() + this.#skewMs);
    }
    if (frame.event === 'message' && typeof frame.data?.id === 'string') this.#rooms.heard(frame);
    else this.#hand(frame);
  }

  /** @param {ServerEvent} frame */
  #hand(frame) {
    this.#emit('event', frame);
    if (!OWN_EVENTS.has(frame.event)) this.#emit(frame.event, frame);
  }

  /** @param {any} reply */
  #settle({ id, ok, data, error }) {
    const waiter = this.#pending.get(id);
    if (!waiter) return; // it timed out before
    this.#pending.delete(id);
    clearTimeout(waiter.timer);
    if (ok) waiter.resolve(data);
    else waiter.reject(new UsherError(error?.code ?? 'unknown', error?.message));
  }

  /** @param {Session} session */
  #joined(session) {
    this.#cancel('join');
    this.#session = session;
    this.#setState({ name: 'joined', session });
    this.#running?.resolve(session);
    this.#hear(session);
  }

  /** Reads what was said in the rooms while the socket was away. @param {Session} session */
  async #hear({ user, rooms }) {
    if (user.id !== this.#userId) this.#rooms.forget();
    this.#userId = user.id;
    this.#rooms.hold(rooms);
    await this.#beat(true); // tells the server's clock
    await this.#rooms.catchUp(rooms, Date.now() + this.#skewMs);
  }

  /** Keeps the lease, finds a dead connection, learns the server's clock. */
  async #beat(first = false) {
    const socket = this.#socket;
    const sent = Date.now();
    try {
      const { server_time: time } = await this.request('heartbeat');
      this.#skewMs = time * 1000 - (sent + Date.now()) / 2;
      if (!first) this.#attempt = 0; // it has lasted: the next back-off starts afresh
    } catch (error) {
      const silent = /** @type {UsherError} */ (error).code === 'timeout';
      if (silent && socket === this.#socket) {
        return this.#ended({ code: 1006, reason: 'heartbeat_timeout' });
      }
    }
    if (socket !== this.#socket) return;
    if (first) this.#planRenewal();
    const pause = this.#options.heartbeatMs * (0.8 + 0.4 * Math.random());
    this.#later('beat', pause, () => this.#beat());
  }

  #planRenewal() {
    const left = (this.expiresIn ?? 0) * 1000;
    const pause = left - Math.min(RENEW_AHEAD_MS, left / 3);
    this.#later('renew', Math.max(1000, pause), () => this.#renew());
  }

  /** Puts a newer token on the live socket. */
  async #renew() {
    const socket = this.#socket;
    if (this.#renewing === socket || !this.#session) return;
    this.#renewing = socket;
    this.#setState({ name: 'refreshing', live: true });
    let failure = null;
    try {
      const token = await this.#credential(true);
      if (socket === this.#socket) await this.#replaceToken(token);
    } catch (error) {
      failure = /** @type {UsherError} */ (error);
    }
    if (this.#renewing === socket) this.#renewing = null;
    if (socket !== this.#socket || !this.#session) return;
    if (failure?.code === 'identity_mismatch') { // the cookies are another sign-in's by now
      return this.#ended({ code: 4401, reason: 'identity_mismatch' });
    }
    this.#setState({ name: 'joined', session: this.#session });
    if (!failure) this.#planRenewal();
    else if (failure.status !== 401) { // after a 401 the server ends the socket in its own time
      this.#later('renew', (failure.after ?? 5) * 1000, () => this.#renew());
    }
  }

  /** @param {string} token */
  async #replaceToken(token) {
    const { expires_at } = await this.request('token-refresh', { token });
    if (this.#session) this.#session = { ...this.#session, expires_at };
  }

  /** One connection is over: decides what follows from its retry class.
   *  @param {import('./usher-wire.js').End} end */
  #ended(end) {
    const last = { ...end, ...this.#closing };
    this.#detach(new UsherError('closed', 'The connection closed.'));
    const { code, reason, after } = last;
    const why = { code, reason, retry: last.retry ?? RETRY[code] ?? 'backoff' };
    if (why.retry === 'never' || why.retry === 'login') return this.#finish(why);
    if (why.retry === 'refresh') this.#stale = true;
    if (why.retry === 'refresh' && this.#attempt === 0) {
      this.#attempt = 1; // at once, but only once: then it backs off like the others
      this.#open();
    } else this.#wait(why, after);
  }

  /** Exponential back-off with full jitter, so that a restart is not followed by a stampede.
   *  @param {Why} why  @param {number} [after] seconds that the server asked for */
  #wait(why, after = 0) {
    const { backoffMs, maxBackoffMs } = this.#options;
    const offline = globalThis.navigator?.onLine === false;
    const ceiling = Math.min(maxBackoffMs, backoffMs * 2 ** this.#attempt);
    const pause = offline ? maxBackoffMs : after * 1000 + Math.random() * ceiling;
    this.#attempt = Math.min(this.#attempt + 1, 30);
    this.#setState({ name: 'waiting', retryAt: Date.now() + pause, attempt: this.#attempt,
      offline, ...why });
    this.#later('retry', pause, () => this.#open());
  }

  #onNetwork = (/** @type {Event} */ { type }) => {
    if (this.#session) this.#beat(); // is the connection still there?
    else if (type === 'online' && this.#state.name === 'waiting') {
      this.#later('retry', Math.random() * this.#options.backoffMs, () => this.#open());
    }
  };

  /** @param {Why} why */
  #finish(why) {
    const error = new UsherError(why.reason || 'closed', undefined, { why });
    this.#detach(error);
    globalThis.removeEventListener?.('online', this.#onNetwork);
    globalThis.removeEventListener?.('offline', this.#onNetwork);
    const running = this.#running;
    this.#running = null;
    this.#stale = false;
    this.#setState({ name: 'closed', ...why });
    running?.reject(error);
  }

  /** Lets go of the socket without waiting for it: on a dead network its close event is late.
   *  @param {UsherError} error for the requests that still wait */
  #detach(error) {
    const socket = this.#socket;
    this.#socket = this.#session = this.#closing = null;
    this.#flight++;
    for (const name of this.#timers.keys()) this.#cancel(name);
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
    socket?.close(1000);
  }

  /** @param {string} name  @param {number} ms  @param {() => void} work */
  #later(name, ms, work) {
    this.#cancel(name);
    this.#timers.set(name, setTimeout(work, Math.min(Math.max(ms, 0), LONGEST_TIMER_MS)));
  }

  /** @param {string} name */
  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  /** @param {UsherState} state */
  #setState(state) {
    this.#state = state;
    this.#emit('state', state);
  }

  /** @param {string} type  @param {any} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @returns {Deferred & {promise: Promise<Session>}} */
function deferred() {
  /** @type {any} */ const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {}); // who listens to 'state' need not handle the promise as well
  return made;
}
