/**
 * usher-app.js: the client for apps. Signing in, calls as the user, and rooms.
 *
 *     import { createUsher } from 'usher-client'; // or from https://usher.example/client/usher.js
 *     const usher = createUsher({ url: 'https://usher.example' });
 *     await usher.signIn({ email, password });
 *     await usher.connect();
 *     const room = usher.room('channel:tea');
 *     room.on('message', ({ from, data }) => console.log(from?.name, data));
 *     await room.send({ text: 'hello' });
 *
 * usher.js has the connection itself; `usher.client` gives access to its other calls.
 *
 * @typedef {import('./usher-types.js').Session} Session
 * @typedef {import('./usher-types.js').UsherState} UsherState
 * @typedef {import('./usher-tokens.js').SignedInUser} User
 *
 * @typedef {object} Settings
 * @property {string | URL} [url] the server, including the path prefix, if any; default: the
 *   page's own origin
 * @property {(want: {renew: boolean}) => Promise<string>} [getToken] for apps that get access
 *   tokens themselves, and sign users in and out themselves
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {'cookies' | 'tokens'} [credentials] default: HttpOnly cookies for a page on the
 *   server's own site, otherwise tokens. A browser sends no cookies to another site.
 * @property {import('./usher-tokens.js').TokenStorage} [storage] where tokens are stored, such as
 *   `localStorage`, which every script of the page can read; default: in memory
 * @property {number} [heartbeatMs]
 * @property {number} [timeoutMs] 10,000
 * @property {number} [backoffMs]
 * @property {number} [maxBackoffMs]
 *
 * @typedef {object} UsherEvents
 * @property {UsherState} state of the connection, at every change
 * @property {User | null} user the signed-in user, when that changes; null: none
 * @property {import('./usher-room.js').Gap} gap in any room
 */

import { RENEWABLE, UserFetch } from './usher-fetch.js';
import { CookieLogin, TokenLogin, ask, bodyOf, parsed, refusal } from './usher-login.js';
import { missing, withDefaults } from './usher-options.js';
import { Listeners, Room } from './usher-room.js';
import { KeptLogin } from './usher-tokens.js';
import { UsherError, misuse } from './usher-wire.js';
import { UsherClient } from './usher.js';

export const VERSION = '1.1.0';
const OF_ROOMS = new Set(['message', 'typing', 'presence']);

/** @param {Settings} [settings]  @returns {Usher}
 *  @throws {UsherError} misuse: an option is invalid */
export function createUsher(settings = {}) { return new Usher(settings); }

export class Usher {
  #options;
  /** @type {CookieLogin | TokenLogin | KeptLogin} */ #login;
  /** @type {Map<string, Room>} */ #rooms = new Map();
  /** @type {User | null} */ #user = null;
  #listeners = new Listeners();
  #userFetch;
  /** The connection: UsherClient. */
  client;

  /** @param {Settings} settings  @throws {UsherError} misuse */
  constructor({ url, credentials, storage, ...others }) {
    this.#options = withDefaults({ ...others, baseUrl: url }, 'url');
    const lack = missing(this.#options, true, 'url');
    if (lack) throw lack;
    if (!this.#options.fetch) throw misuse('There is no fetch here: pass one as the option fetch.');
    this.#login = this.#loginBy(credentials, storage);
    this.#userFetch = new UserFetch(this.#options, this.#login, () => this.#became(null));
    this.client = new UsherClient({ ...others, baseUrl: this.#options.base.href, getToken: undefined,
      login: this.#login });
    this.client.addEventListener('state', (/** @type {any} */ { detail }) => this.#state(detail));
    this.client.addEventListener('event', (/** @type {any} */ { detail }) => this.#event(detail));
    this.client.addEventListener('gap', (/** @type {any} */ { detail }) => this.#gap(detail));
  }

  /** @param {string | undefined} credentials
   *  @param {import('./usher-tokens.js').TokenStorage | undefined} storage */
  #loginBy(credentials, storage) {
    const { base, getToken } = this.#options;
    if (getToken) return new TokenLogin(this.#options);
    const kind = credentials ?? (sameSite(globalThis.location, base) ? 'cookies' : 'tokens');
    if (kind === 'cookies') return new CookieLogin(this.#options);
    if (kind !== 'tokens') throw misuse('credentials is neither cookies nor tokens.');
    const kept = new KeptLogin(this.#options, storage, () => this.#became(null));
    this.#user = kept.user;
    return kept;
  }

  // ---- signing in ----------------------------------------------------------------------------

  /** The signed-in user, if known: with cookies, it is known after `me()`, a sign-in or
   *  `connect()`.  @returns {User | null} */
  get user() { return this.#user; }

  /** Asks the server for the signed-in user.  @returns {Promise<User | null>} */
  async me() {
    try {
      return this.#became(bodyOf(await this.#call('api/auth/me', 'GET')));
    } catch (error) {
      if (!RENEWABLE.has(/** @type {UsherError} */ (error).code)) throw error;
      return this.#became(null);
    }
  }

  /** @param {string} path  @param {string} method
   *  @returns {Promise<{status: number, body: any}>} a 2xx response; rejects with UsherError */
  async #call(path, method) {
    const answer = await this.fetch(path, { method });
    const body = parsed(await answer.text());
    if (!answer.ok) throw refusal(answer, body);
    return { status: answer.status, body };
  }

  /** @param {{email: string, password: string}} form
   *  @returns {Promise<User>} rejects with UsherError: `unauthenticated`, `rate_limited` with
   *    `retryAfter`, `unreachable`, `cookies_blocked`, … */
  async signIn({ email, password }) {
    return /** @type {User} */ (await this.#signIn('login', { email, password }));
  }

  /** @param {{email: string, password: string, name: string, invitation?: string}} form
   *  @returns {Promise<User | null>} null: the address has to be confirmed first; rejects as
   *    `signIn`, and with `weak_password`, `email_taken`, … */
  signUp({ email, password, name, invitation }) {
    return this.#signIn('signup', { email, password, name, ...(invitation && { invitation }) });
  }

  /** Completes a sign-in that was refused with `second_factor_needed`.
   *  @param {UsherError} asked  @param {{code: string}} factor of the authenticator app, or a
   *    recovery code
   *  @returns {Promise<User>} rejects with `wrong_code` if another code can be tried, and with
   *    `unauthenticated` if the sign-in has to begin again */
  async secondFactor(asked, { code }) {
    const { challenge } = asked.problem ?? {};
    if (typeof challenge !== 'string') throw misuse('secondFactor requires the error of a sign-in.');
    return /** @type {User} */ (await this.#signIn('second-factor', { challenge, code }));
  }

  /** @param {'login' | 'signup' | 'second-factor'} call  @param {object} form */
  async #signIn(call, form) {
    const login = this.#login;
    if (login instanceof TokenLogin) throw misuse('With getToken, the app signs in itself.');
    const user = login instanceof KeptLogin ? await login.signIn(call, form)
      : await this.#withCookies(call, form);
    if (user) {
      this.client.close(); // the connection may belong to another user
      this.#became(user);
    }
    return user;
  }

  /** @param {string} call  @param {object} form  @returns {Promise<User | null>} */
  async #withCookies(call, form) {
    const { user } = bodyOf(await ask(this.#options, `api/auth/${call}`,
      { body: form, credentials: 'include' }));
    if (user === undefined) return null;
    try {
      await ask(this.#options, 'api/auth/me', { method: 'GET', credentials: 'include' });
    } catch (error) {
      const { code } = /** @type {UsherError} */ (error);
      if (code !== 'unauthenticated') throw error;
      throw new UsherError('cookies_blocked', 'The browser stores no cookies of the server for this '
        + "page: it is another site to it. Create the client with credentials: 'tokens'.");
    }
    return user;
  }

  /** Authenticates again, for calls and rooms that respond `step_up_needed` (its `problem` has the
   *  `methods`). The open connection joins the rooms that require it.
   *  @param {{password?: string, code?: string, credential?: object}} proof
   *  @returns {Promise<void>} rejects with UsherError: `wrong_password`, `wrong_code`,
   *    `passkey_refused`, `step_up_needed` if the proof is not enough, `rate_limited`, … */
  async stepUp(proof) {
    const login = this.#login;
    if (login instanceof TokenLogin) throw misuse('With getToken, the app does that itself.');
    const answer = await this.fetch('api/auth/step-up', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(proof),
    });
    const body = parsed(await answer.text());
    if (!answer.ok) throw refusal(answer, body);
    if (login instanceof KeptLogin) login.stepped(body);
    await this.client.raise();
  }

  /** Navigates to a provider's sign-in.
   *  @param {string} provider its name in `/api/oauth/providers`
   *  @param {{next?: string | URL}} [options] where to return to: a page of the server's own
   *    origin or of an allowed one; default: this page
   *  @returns {Promise<never>} rejects with UsherError: misuse */
  async signInWith(provider, { next } = {}) {
    const { location } = globalThis;
    if (!location?.assign || !(this.#login instanceof CookieLogin)) {
      throw misuse('signInWith needs a page on the site of the server, which has its cookies. '
        + 'A program signs in through the system browser: see docs/native.md.');
    }
    const there = new URL(`oauth/${encodeURIComponent(provider)}/login`, this.#options.base);
    there.searchParams.set('next', new URL(next ?? location.href, location.href).href);
    location.assign(there.href);
    return new Promise(() => {}); // the browser leaves the page
  }

  /** Ends the login session on the server, and the connection. If the server cannot be reached,
   *  this rejects, and the user stays signed in.
   *  @returns {Promise<void>} rejects with UsherError */
  async signOut() {
    const login = this.#login;
    if (login instanceof TokenLogin) throw misuse('With getToken, the app signs out itself.');
    try {
      await this.#call('api/auth/logout', 'POST');
    } catch (error) {
      if (!RENEWABLE.has(/** @type {UsherError} */ (error).code)) throw error; // otherwise it has ended
    }
    if (login instanceof KeptLogin) login.forget();
    this.client.close();
    this.#became(null);
  }

  /** @template {User | null} U  @param {U} user  @returns {U} */
  #became(user) {
    const before = this.#user;
    this.#user = user;
    if (before?.id !== user?.id) this.#listeners.tell('user', user);
    return user;
  }

  // ---- calls ---------------------------------------------------------------------------------

  /** `fetch` as the user. A path is a path on the server. The credential is only sent to the
   *  server: a URL of another origin is fetched without it, as by `fetch` itself. An expired access
   *  token is refreshed, and the call repeated once.
   *  @param {RequestInfo | URL} input  @param {RequestInit} [init]
   *  @returns {Promise<Response>} whatever its status; rejects with UsherError `unreachable`, or
   *    with the reason of `init.signal` */
  fetch(input, init = {}) { return this.#userFetch.fetch(input, init); }

  // ---- the connection and its rooms ----------------------------------------------------------

  /** @returns {UsherState} */
  get state() { return this.client.state; }

  /** Connects and stays connected until `close()`, `signOut()`, or a close code that forbids it.
   *  @returns {Promise<Session>} at the first join; rejects with UsherError: `unauthenticated`
   *    if no user is signed in */
  connect() { return this.client.connect(); }

  /** Ends the connection; the user stays signed in. */
  close() { this.client.close(); }

  /** @template {keyof UsherEvents} T
   *  @param {T} type  @param {(detail: UsherEvents[T]) => void} listener
   *  @returns {() => void} removes the listener */
  on(type, listener) { return this.#listeners.on(type, listener); }

  /** @param {string} id `channel:ID` or `user:ID`  @returns {Room} the same object each time */
  room(id) {
    if (typeof id !== 'string' || !/^(channel|user):./.test(id)) {
      throw misuse(`This is no room: ${String(id)}. Rooms are channel:ID and user:ID.`);
    }
    const room = this.#rooms.get(id) ?? new Room(this.client, id);
    this.#rooms.set(id, room);
    return room;
  }

  /** @param {UsherState} state */
  #state(state) {
    if (state.name === 'joined' && state.session.user.id !== this.#user?.id) {
      this.#became(state.session.user);
    }
    if (state.name === 'closed' && state.retry === 'login') {
      if (this.#login instanceof KeptLogin && !state.error) this.#login.forget(this.#login.shown);
      this.#became(null);
    }
    this.#listeners.tell('state', state);
  }

  /** @param {{event: string, data?: any, room?: string, id?: string, sent_at?: number}} frame */
  #event({ event, room, data, id, sent_at }) {
    if (room !== undefined) { // a backend published it
      const to = this.#rooms.get(room);
      const detail = { event, room, data, ...(id && { id }), ...(sent_at && { sent_at }) };
      to?.tell('event', detail);
      if (event !== 'event') to?.tell(event, detail);
    } else if (OF_ROOMS.has(event)) this.#rooms.get(data?.room)?.tell(event, data);
  }

  /** @param {import('./usher-room.js').Gap} gap */
  #gap(gap) {
    this.#rooms.get(gap.room)?.tell('gap', gap);
    this.#listeners.tell('gap', gap);
  }
}

/** Whether a browser sends the server's SameSite cookies with a page's calls. If that cannot be
 *  known (`a.co.uk` and `b.co.uk`), it is tried: see `cookies_blocked`.
 *  @param {{protocol?: string, hostname?: string} | undefined} page  @param {URL} server */
function sameSite(page, { protocol, hostname }) {
  if (!page?.hostname || page.protocol !== protocol) return false;
  if (page.hostname === hostname) return true;
  const site = (/** @type {string} */ host) => host.split('.').slice(-2).join('.');
  const named = /\.[a-z][a-z0-9-]*$/i.test(hostname); // an IP address is a site of its own
  return named && site(page.hostname) === site(hostname);
}
