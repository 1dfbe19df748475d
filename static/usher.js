/**
 * usher.js: keeps one authenticated WebSocket to an Usher server alive.
 *
 *     import { UsherClient } from './usher.js';
 *     const usher = new UsherClient();
 *     usher.addEventListener('message', ({ detail }) => console.log(detail.data));
 *     const { user } = await usher.connect();
 *     await usher.request('presence', { room: `user:${user.id}` });
 *
 * In a browser it uses the HttpOnly cookies: it fetches a single-use ticket for each connection
 * and each refresh. With `getToken` it uses a native client's access token.
 * No dependencies. Browsers, Node >= 22; on Node 20 pass `WebSocket` (the `ws` package's).
 *
 * Its own events (CustomEvent):
 *   state   detail: UsherState, at every change
 *   frame   detail: UsherFrame, every frame both ways, secrets masked
 *   event   detail: ServerEvent, every event of the server
 *   gap     detail: {room}, messages of a room were missed and are not in the history
 * `state` is dispatched again with a new session when the rooms of a joined socket change.
 * Each event of the server is also dispatched under its own name (`joined`, `message`,
 * `typing`, `presence`, `access-changed`, `closing`, …) unless that is one of the four above.
 * After a reconnect, missed `message` events come first, in order and once (`history`).
 *
 * A mistake that no retry can fix (no WebSocket, no URL, an error in `getToken` before the first
 * join) is a UsherError with the code `misuse` and the `cause`: the constructor throws it, or
 * `connect()` rejects with it. Only failures of the network are retried.
 *
 * @typedef {import('./usher-types.js').Deferred} Deferred
 * @typedef {import('./usher-types.js').Login} Login
 * @typedef {import('./usher-types.js').ServerEvent} ServerEvent
 * @typedef {import('./usher-types.js').Session} Session
 * @typedef {import('./usher-types.js').UsherOptions} UsherOptions
 * @typedef {import('./usher-types.js').UsherState} UsherState
 */

import { BEGINNING, step } from './usher-life.js';
import { CookieLogin, TokenLogin } from './usher-login.js';
import { missing, withDefaults } from './usher-options.js';
import { Rooms } from './usher-rooms.js';
import { Connection, Timers } from './usher-socket.js';
import { MAX_FRAME_BYTES, PROTOCOL, RETRY, UsherError, endOf } from './usher-wire.js';

export { MAX_FRAME_BYTES, PROTOCOL, RETRY, UsherError };

const OWN_EVENTS = new Set(['state', 'frame', 'event', 'gap']);
const ROOM_EVENTS = new Set(['join', 'leave', 'join-channels']);
const RENEW_AHEAD_MS = 45_000; // in case the server's token-expiring, 60 s ahead, is lost
const RENEW_AGAIN_SECONDS = 5;
const HISTORY_TIMEOUTS = 6; // many replies of 64 KiB take long on a slow connection

export class UsherClient extends EventTarget {
  /** @type {any} */ #options;
  /** @type {Login} */ #login;
  #rooms = new Rooms((frame) => this.#hand(frame), (room) => this.#emit('gap', { room }));
  #userId = '';
  #life = BEGINNING;
  /** @type {UsherState} */ #state = { name: 'idle' };
  /** @type {Connection | null} */ #connection = null;
  /** @type {Session | null} */ #session = null;
  #timers = new Timers();
  /** @type {Deferred | null} */ #running = null;
  #flight = 0; // counts attempts, so that an outdated one notices
  #offsetMs = Date.now() - performance.now(); // the server's clock minus performance.now()

  /** @param {UsherOptions} [options]  @throws {UsherError} misuse */
  constructor(options = {}) {
    super();
    this.#options = withDefaults(options);
    const { getToken, login } = this.#options;
    this.#login = login
      ?? (getToken ? new TokenLogin(this.#options) : new CookieLogin(this.#options));
  }

  /** @returns {UsherState} */
  get state() { return this.#state; }

  /** @returns {Session|null} the session while joined */
  get session() { return this.#session; }

  /** @returns {number|null} seconds until the session's token expires, by the server's clock */
  get expiresIn() {
    return this.#session && this.#session.expires_at - this.#serverNow() / 1000;
  }

  #serverNow() { return performance.now() + this.#offsetMs; }

  /** Connects and stays connected until `close()` or a close code that forbids it.
   *  If the client is waiting for the next attempt, that attempt starts now.
   *  @returns {Promise<Session>} at the first join; rejects with UsherError (`why`) if given up */
  connect() {
    const lack = missing(this.#options, true);
    if (lack) return Promise.reject(lack);
    let running = this.#running;
    if (!running) {
      running = this.#running = deferred();
      globalThis.addEventListener?.('online', this.#onNetwork);
      globalThis.addEventListener?.('offline', this.#onNetwork);
    }
    this.#on({ type: 'connect' });
    return running.promise;
  }

  /** Closes the socket permanently. */
  close() { this.#on({ type: 'close' }); }

  /** Sends an event without a reply.
   *  @param {string} event  @param {any} [data]  @throws {UsherError} not_joined, too_big, busy */
  send(event, data) {
    const connection = this.#joinedOne();
    if (!ROOM_EVENTS.has(event)) return connection.send(event, data);
    this.request(event, data).catch(() => {}); // the reply has the current rooms
  }

  /** Sends an event and waits for its reply.
   *  @param {string} event  @param {any} [data]  @param {{timeoutMs?: number}} [options]
   *  @returns {Promise<any>} the reply's data; rejects with UsherError: the server's code, or
   *    not_joined, too_big, busy, timeout, closed */
  request(event, data, { timeoutMs = this.#options.timeoutMs } = {}) {
    try {
      const connection = this.#joinedOne();
      return ROOM_EVENTS.has(event) ? this.#move(connection, event, data, timeoutMs)
        : connection.request(event, data, timeoutMs);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Joins or leaves rooms.  @param {Connection} connection  @param {string} event
   *  @param {any} data  @param {number} timeoutMs */
  async #move(connection, event, data, timeoutMs) {
    const reply = connection.request(event, data, timeoutMs, true);
    this.#rooms.asked(event, data);
    const answer = await reply;
    if (connection === this.#connection) this.#moved(event, answer);
    return answer;
  }

  #joinedOne() {
    if (!this.#session || !this.#connection) throw new UsherError('not_joined');
    return this.#connection;
  }

  /** Refreshes the login cookies, once at a time over all tabs; with `getToken`, requests a newer
   *  token.
   *  @returns {Promise<void>} rejects with UsherError; status 401: sign in again */
  async refresh() {
    const lack = missing(this.#options, false);
    if (lack) throw lack;
    return this.#login.refresh();
  }

  /** Refreshes a joined socket with the current credential, as after a step-up: the socket joins
   *  the rooms that require one.  @returns {Promise<void>} */
  async raise() { if (this.#session && this.#connection) await this.#renew(false); }

  // ---- the state machine ---------------------------------------------------------------------

  /** Applies an event to the state machine, and executes the action.
   *  @param {import('./usher-life.js').LifeEvent} event */
  #on(event) {
    const { life, act } = step(this.#life, event);
    this.#life = life;
    if (act) this.#acts[act](event);
  }

  /** @type {Record<import('./usher-life.js').Act, (event: any) => void>} */
  #acts = {
    open: () => { this.#open(); },
    wait: () => this.#wait(),
    soon: () => this.#later('due', Math.random() * this.#options.backoffMs, 'due'),
    finish: () => this.#finish(),
    renew: () => { this.#renew(); },
    'renew-later': ({ end }) => {
      // A separate timer: a late first heartbeat reschedules the other one.
      this.#later('renew-again', (end.after ?? RENEW_AGAIN_SECONDS) * 1000, 'expiring');
      this.#showJoined();
    },
    stay: () => this.#showJoined(),
    look: () => { this.#beat(); },
  };

  /** @param {string} name  @param {number} ms  @param {'due' | 'expiring'} type */
  #later(name, ms, type) { this.#timers.later(name, ms, () => this.#on({ type })); }

  #onNetwork = (/** @type {Event} */ { type }) => this.#on(/** @type {any} */ ({ type }));

  async #open() {
    const flight = ++this.#flight;
    this.#timers.cancel('due');
    const { attempt, renew } = this.#life;
    this.#setState(renew ? { name: 'refreshing', live: false } : { name: 'connecting', attempt });
    if (flight !== this.#flight) return; // the page closed in its listener
    try {
      const credential = await this.#login.credential(renew);
      if (flight !== this.#flight) return;
      this.#on({ type: 'credential' });
      this.#connection = this.#attach(credential);
    } catch (error) {
      if (flight === this.#flight) this.#lost(endOf(error));
    }
  }

  /** @param {string} credential */
  #attach(credential) {
    const { base, present } = this.#options;
    const url = new URL('ws', base);
    url.protocol = url.protocol.replace('http', 'ws');
    const protocols = [PROTOCOL];
    let hello;
    if (this.#login.gives === 'ticket') url.searchParams.set('ticket', credential);
    else if (present === 'subprotocol') protocols.push(`usher.bearer.${credential}`);
    else hello = { event: 'user-join', data: { auth: { token: credential } } };
    return new Connection(this.#options, { url: url.href, protocols, hello }, {
      frame: (frame) => this.#receive(frame),
      passed: (detail) => this.#emit('frame', detail),
      ended: (end) => this.#lost(end),
    });
  }

  /** The connection or the attempt has ended. @param {import('./usher-wire.js').End} end */
  #lost(end) {
    this.#detach(new UsherError('closed', 'The connection closed.'));
    this.#on({ type: 'lost', end });
  }

  /** Exponential back-off with full jitter, so that clients do not all reconnect at once. */
  #wait() {
    const { backoffMs, maxBackoffMs } = this.#options;
    const { attempt, end } = this.#life;
    const { code, reason, retry, after = 0, error } = /** @type {any} */ (end);
    const offline = globalThis.navigator?.onLine === false;
    const ceiling = Math.min(maxBackoffMs, backoffMs * 2 ** (attempt - 1));
    const pause = offline ? maxBackoffMs : after * 1000 + Math.random() * ceiling;
    this.#later('due', pause, 'due');
    this.#setState({ name: 'waiting', retryAt: Date.now() + pause, attempt, offline,
      code, reason, retry, ...(error && { error }) });
  }

  #finish() {
    const { code, reason, retry, error: cause } = /** @type {any} */ (this.#life.end);
    const why = { code, reason, retry };
    const error = reason === 'misuse' ? cause : new UsherError(reason || 'closed', undefined, { cause });
    error.why = why;
    this.#detach(error);
    globalThis.removeEventListener?.('online', this.#onNetwork);
    globalThis.removeEventListener?.('offline', this.#onNetwork);
    const running = this.#running;
    this.#running = null;
    // A page that listens to 'state' need not handle the promise, but a mistake must be reported.
    if (reason !== 'misuse') running?.promise.catch(() => {});
    running?.reject(error);
    this.#setState({ name: 'closed', ...why, ...(cause && { error: cause }) });
  }

  /** Drops the connection. @param {UsherError} error for pending requests */
  #detach(error) {
    const connection = this.#connection;
    this.#connection = this.#session = null;
    this.#flight++;
    this.#timers.clear();
    connection?.leave(error);
  }

  // ---- received frames -----------------------------------------------------------------------

  /** @param {any} frame */
  #receive(frame) {
    const { event, data } = frame;
    if (frame.room === undefined) { // otherwise a backend published it
      if (event === 'joined') this.#joined(data);
      if (event === 'token-expiring') this.#on({ type: 'expiring' });
      if (event === 'access-changed' && Array.isArray(data?.rooms)) this.#changed(data.rooms);
      if (event === 'gap' && typeof data?.room === 'string') this.#rooms.lost(data.room);
    }
    this.#rooms.heard(frame);
  }

  /** @param {ServerEvent} frame */
  #hand(frame) {
    this.#emit('event', frame);
    if (!OWN_EVENTS.has(frame.event)) this.#emit(frame.event, frame);
  }

  /** @param {Session} session */
  #joined(session) {
    const connection = /** @type {Connection} */ (this.#connection);
    const again = this.#session !== null; // a user-join sent by the page
    if (session.user.id !== this.#userId) this.#rooms.forget();
    this.#userId = session.user.id;
    const rooms = again ? this.#rooms.changed(session.rooms) : this.#rooms.joined(session.rooms);
    this.#session = { ...session, rooms };
    this.#on({ type: 'joined' });
    if (!again) this.#begin(connection, session.rooms);
    this.#showJoined();
    this.#running?.resolve(this.#session ?? session);
  }

  /** The first frames over a new socket.
   *  @param {Connection} connection  @param {string[]} rooms that the socket is in */
  #begin(connection, rooms) {
    this.#leaveAgain(rooms);
    this.#beat(true); // answered before `history`: the reply has the server's clock
    const timeoutMs = HISTORY_TIMEOUTS * this.#options.timeoutMs;
    const current = () => connection === this.#connection;
    /** @param {object} data */
    const ask = (data) => connection.request('history', data, timeoutMs, true);
    const missing = this.#rooms.missing(rooms);
    this.#rooms.catchUp(ask, current);
    this.#joinAgain(connection, missing, (room) => this.#rooms.catchUp(ask, current, room));
  }

  /** Joins the rooms that the page has joined by name, one after the other: a new socket is only in
   *  those that the server puts it into.
   *  @param {Connection} connection  @param {string[]} names  @param {(room: string) => void} back */
  async #joinAgain(connection, names, back) {
    for (let next = 0; next < names.length;) {
      const room = names[next];
      try {
        if (this.#rooms.awaits(room)) await connection.request('join', { room }, Infinity, true);
        if (connection !== this.#connection) return;
        if (this.#rooms.awaits(room)) {
          this.#moved('join', { room });
          back(room);
        }
      } catch (error) {
        const { code, retryAfter } = /** @type {UsherError} */ (error);
        if (connection !== this.#connection || code === 'closed') return; // the next one joins it
        if (code === 'rate_limited' || code === 'unavailable') {
          await new Promise((done) => { setTimeout(done, 1000 * (retryAfter ?? 1)); });
          continue;
        }
        this.#rooms.gone(room);
      }
      next++;
    }
  }

  /** The server reports the rooms of the socket. @param {string[]} rooms */
  #changed(rooms) {
    this.#leaveAgain(rooms);
    this.#setRooms(this.#rooms.changed(rooms));
  }

  /** Leaves the rooms that the page has left, because a new socket is in every permitted room.
   *  @param {string[]} rooms that the socket is in */
  #leaveAgain(rooms) {
    for (const room of this.#rooms.unwanted(rooms)) {
      this.#connection?.request('leave', { room }, Infinity, true).catch(() => {});
    }
  }

  /** The page joined or left rooms. @param {string} event  @param {any} answer */
  #moved(event, answer) {
    const { rooms = [] } = this.#session ?? {};
    if (event === 'join-channels') return this.#setRooms(this.#rooms.changed(answer.rooms));
    if (event === 'join') this.#rooms.named(answer.room);
    const others = rooms.filter((room) => room !== answer.room);
    this.#setRooms(this.#rooms.changed(event === 'join' ? [...others, answer.room] : others));
  }

  /** @param {string[]} rooms */
  #setRooms(rooms) {
    if (!this.#session) return;
    const { rooms: before } = this.#session;
    if (rooms.length === before.length && rooms.every((room, n) => room === before[n])) return;
    this.#session = { ...this.#session, rooms };
    this.#showJoined();
  }

  /** Notifies the page, unless a newer token is being fetched: then it is notified after that. */
  #showJoined() {
    if (this.#life.name === 'joined' && this.#session) {
      this.#setState({ name: 'joined', session: this.#session });
    }
  }

  // ---- heartbeats and refresh ----------------------------------------------------------------

  /** Renews the lease, detects a dead connection, and reads the server's clock. */
  async #beat(first = false) {
    const connection = /** @type {Connection} */ (this.#connection);
    try {
      const { serverMs, sentAt, heardAt } = await connection.beat();
      if (connection !== this.#connection) return;
      this.#offsetMs = serverMs - (sentAt + heardAt) / 2;
      // Too early by up to the time of the transfer: a message shown twice is better than one that
      // is never shown.
      this.#rooms.clock(serverMs - heardAt - (heardAt - sentAt));
      if (!first) this.#on({ type: 'lasted' }); // the next back-off starts at its first pause
    } catch {} // refused, or the connection has ended, which is reported separately
    if (connection !== this.#connection) return;
    if (first) this.#planRenewal();
    const pause = this.#options.heartbeatMs * (0.8 + 0.4 * Math.random());
    this.#timers.later('beat', pause, () => this.#beat());
  }

  #planRenewal() {
    const left = (this.expiresIn ?? 0) * 1000;
    this.#later('renew', Math.max(1000, left - Math.min(RENEW_AHEAD_MS, left / 3)), 'expiring');
  }

  /** Refreshes the live socket.  @param {boolean} newer whether a newer token is needed */
  async #renew(newer = true) {
    const connection = this.#connection;
    for (const name of ['renew', 'renew-again']) this.#timers.cancel(name);
    this.#setState({ name: 'refreshing', live: true });
    try {
      const token = await this.#login.credential(newer);
      if (!connection || connection !== this.#connection) return;
      const { expires_at: expiresAt } = await connection.request('token-refresh', { token },
        this.#options.timeoutMs, true);
      if (connection !== this.#connection || !this.#session) return;
      this.#session = { ...this.#session, expires_at: expiresAt };
      this.#on({ type: 'renewed' });
      this.#planRenewal();
      this.#showJoined();
    } catch (error) {
      if (connection === this.#connection) this.#on({ type: 'not-renewed', end: endOf(error) });
    }
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

/** @returns {Deferred} */
function deferred() {
  /** @type {any} */ const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
