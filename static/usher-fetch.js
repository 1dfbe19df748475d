/**
 * `fetch` as the signed-in user. Used through usher-app.js.
 *
 * @typedef {import('./usher-login.js').CookieLogin} CookieLogin
 */

import { TokenLogin, parsed, refusal } from './usher-login.js';
import { KeptLogin } from './usher-tokens.js';
import { UsherError } from './usher-wire.js';

export const RENEWABLE = new Set(['unauthenticated', 'token_expired']);

export class UserFetch {
  #options;
  #login;
  #signedOut;

  /** @param {any} options  @param {CookieLogin | TokenLogin | KeptLogin} login
   *  @param {() => void} signedOut called when the login session has ended */
  constructor(options, login, signedOut) {
    this.#options = options;
    this.#login = login;
    this.#signedOut = signedOut;
  }

  /** See `Usher.fetch`.
   *  @param {RequestInfo | URL} input  @param {RequestInit} [init]  @returns {Promise<Response>} */
  async fetch(input, init = {}) {
    const { base, fetch } = this.#options;
    const given = isRequest(input) ? /** @type {Request} */ (input) : null;
    // A path is relative to the server's path prefix.
    const url = new URL(given ? given.url : String(input).replace(/^\/(?![/\\])/, './'), base);
    if (url.origin !== base.origin || !url.pathname.startsWith(base.pathname)) {
      return fetch(given ?? url.href, init);
    }
    // A body that can be read only once is copied for the second attempt.
    const whole = given || isStream(init.body) ? new Request(given ?? url.href, init) : null;
    const how = whole ? { headers: whole.headers, signal: whole.signal } : init;
    const token = await this.#token();
    const used = this.#login.mark();
    const answer = await this.#asUser(whole?.clone() ?? url.href, how, token);
    if (answer.status !== 401 || !await this.#renewed(answer, used)) return answer;
    return this.#asUser(whole ?? url.href, how, await this.#token());
  }

  /** @param {Request | string} target  @param {RequestInit} init  @param {string} token */
  async #asUser(target, init, token) {
    const { fetch, timeoutMs } = this.#options;
    const headers = new Headers(init.headers);
    if (token && !headers.has('Authorization')) headers.set('Authorization', `Bearer ${token}`);
    const late = new AbortController(); // the timeout ends when the response begins
    const timer = setTimeout(() => late.abort(), timeoutMs);
    const { signal } = init;
    try {
      return await fetch(target, {
        ...init, headers, signal: signal ? either(signal, late.signal) : late.signal,
        // A redirect could send the token to another origin.
        ...(this.#login.gives === 'token' ? { redirect: 'error', credentials: 'omit' }
          : { credentials: 'include' }),
      });
    } catch (cause) {
      if (signal?.aborted) throw cause;
      throw new UsherError('unreachable', undefined, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** @returns {Promise<string>} the access token; '': cookies, or no user is signed in */
  async #token() {
    const login = this.#login;
    if (login instanceof TokenLogin) return login.credential(false);
    return login instanceof KeptLogin ? login.mark() : '';
  }

  /** @param {Response} answer a 401  @param {string} used the mark of the credential
   *  @returns {Promise<boolean>} whether to try again */
  async #renewed(answer, used) {
    const login = this.#login;
    const { code } = refusal(answer, parsed(await answer.clone().text()));
    if (!RENEWABLE.has(code) || (login instanceof KeptLogin && !used)) return false;
    if (login.mark() !== used) return true; // refreshed meanwhile
    try {
      await (login instanceof KeptLogin ? login.renew(used) : login.refresh());
      return true;
    } catch (error) {
      if (!RENEWABLE.has(/** @type {UsherError} */ (error).code)) throw error;
      if (!(login instanceof TokenLogin)) this.#signedOut();
      return false;
    }
  }
}

/** @param {AbortSignal} given  @param {AbortSignal} late  @returns {AbortSignal} */
function either(given, late) {
  return AbortSignal.any?.([given, late]) ?? given; // browsers before 2024 have no `any`
}

/** @param {unknown} input  @returns {boolean} */
function isRequest(input) { return typeof input === 'object' && input !== null && 'clone' in input; }

/** @param {any} body  @returns {boolean} */
function isStream(body) { return typeof body?.getReader === 'function'; }
