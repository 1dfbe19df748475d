/** The login of a native client, and of a page on another site: tokens instead of cookies. Used
 *  through usher-app.js. */

import { ask, bodyOf, stored } from './usher-login.js';
import { UsherError } from './usher-wire.js';

/**
 * @typedef {{id: string, name: string, role: string, email?: string}} SignedInUser
 * @typedef {{access: string, refresh: string, user: SignedInUser, device?: string}} Kept
 * @typedef {Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} TokenStorage
 */

const LOCK = 'usher-tokens';

/** Refreshes in progress, by the storage of their tokens: clients that share tokens share them.
 *  @type {WeakMap<object, Map<string, Promise<void>>>} */
const flights = new WeakMap();

/** Tokens in memory, as long as the page or the process exists. @returns {TokenStorage} */
function memory() {
  /** @type {Map<string, string>} */ const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => { kept.set(key, value); },
    removeItem: (key) => { kept.delete(key); },
  };
}

export class KeptLogin {
  gives = /** @type {const} */ ('token');
  #options;
  #storage;
  #shared;
  #key;
  #shown = ''; // the last access token of the socket
  #forgotten;

  /** @param {{base: URL, fetch: typeof globalThis.fetch, timeoutMs: number}} options
   *  @param {TokenStorage | undefined} storage  default: memory
   *  @param {() => void} forgotten called when the server has refused the refresh token */
  constructor(options, storage, forgotten) {
    this.#options = options;
    this.#storage = storage ?? memory();
    this.#shared = storage !== undefined; // possibly with other tabs
    this.#key = `usher ${options.base.href}`;
    this.#forgotten = forgotten;
  }

  /** @returns {Kept | null} */
  get #kept() {
    try {
      const kept = JSON.parse(this.#storage.getItem(this.#key) ?? 'null');
      return typeof kept?.refresh === 'string' ? kept : null;
    } catch {
      return null; // not Usher's text, or the storage is blocked
    }
  }

  /** @returns {SignedInUser | null} */
  get user() { return this.#kept?.user ?? null; }

  /** The current access token; '': none. */
  mark() { return this.#kept?.access ?? ''; }

  /** @param {'login' | 'signup' | 'second-factor'} call  @param {object} form
   *  @returns {Promise<SignedInUser | null>} null: the address has to be confirmed first */
  async signIn(call, form) {
    const device = call !== 'signup' ? { device: this.#device } : {};
    const body = bodyOf(await ask(this.#options, `api/auth/${call}`,
      { body: { ...form, ...device, client: 'native' } }));
    if (body.user === undefined) return null;
    this.#keep(body);
    return body.user;
  }

  /** The last access token of the socket. */
  get shown() { return this.#shown; }

  /** Deletes the tokens; the device token stays for the next sign-in.
   *  @param {string} [which] the access token that they must belong to */
  forget(which = this.mark()) {
    if (which !== this.mark()) return; // of another sign-in
    this.#shown = '';
    this.#device = this.#kept?.device ?? this.#device;
    this.#storage.removeItem(this.#key);
  }

  /** Identifies this device to the server, so that password guessing by others does not lock it
   *  out. */
  get #device() { return this.#storage.getItem(`${this.#key} device`) ?? ''; }

  set #device(device) {
    if (device) this.#storage.setItem(`${this.#key} device`, device);
  }

  /** For the socket.  @param {boolean} renew a newer one than the last  @returns {Promise<string>} */
  async credential(renew) {
    if (renew) await this.renew(this.#shown);
    this.#shown = this.mark();
    if (this.#shown) return this.#shown;
    throw new UsherError('unauthenticated', 'No user is signed in.', { status: 401 });
  }

  /** @returns {Promise<void>} */
  refresh() { return this.renew(this.mark()); }

  /** Replaces this access token by a newer one. There is one refresh at a time for all clients that
   *  share the tokens, because a refresh token works only once.
   *  @param {string} stale  @returns {Promise<void>} rejects with UsherError */
  renew(stale) {
    if (this.mark() !== stale) return Promise.resolve();
    const mine = flights.get(this.#storage) ?? new Map();
    flights.set(this.#storage, mine);
    let flight = mine.get(this.#key);
    if (!flight) {
      flight = this.#alone(stale).finally(() => mine.delete(this.#key));
      mine.set(this.#key, flight);
    }
    return flight;
  }

  /** @param {string} stale  @returns {Promise<void>} */
  async #alone(stale) {
    const locks = this.#shared ? globalThis.navigator?.locks : null;
    if (!locks) return this.#refresh(stale);
    const asked = performance.now();
    let begun = false;
    const refresh = async () => {
      begun = true;
      await stored(asked);
      return this.#refresh(stale);
    };
    try {
      await locks.request(`${LOCK} ${this.#key}`,
        { signal: AbortSignal.timeout(this.#options.timeoutMs) }, refresh);
    } catch (error) {
      if (begun) throw error;
      await refresh(); // a frozen tab may never release the lock; the server accepts two at once
    }
  }

  /** @param {string} stale */
  async #refresh(stale) {
    const kept = this.#kept;
    if (!kept) throw new UsherError('unauthenticated', 'No user is signed in.', { status: 401 });
    if (kept.access !== stale) return; // another tab has refreshed it meanwhile
    try {
      this.#keep(bodyOf(await ask(this.#options, 'api/auth/refresh',
        { body: { refresh_token: kept.refresh } })));
    } catch (error) {
      const { code } = /** @type {UsherError} */ (error);
      if ((code === 'unauthenticated' || code === 'token_expired') && this.mark() === stale) {
        this.forget();
        this.#forgotten();
      }
      throw error;
    }
  }

  /** Stores the tokens of a step-up.  @param {any} answer */
  stepped(answer) { this.#keep(answer); }

  /** @param {any} answer of a sign-in, a refresh or a step-up */
  #keep({ access_token: access, refresh_token: refresh, user, device }) {
    if (typeof access !== 'string' || typeof refresh !== 'string' || typeof user?.id !== 'string') {
      throw new UsherError('http_error', 'A response without tokens.');
    }
    this.#storage.setItem(this.#key, JSON.stringify({ access, refresh, user }));
    this.#device = device;
  }
}
