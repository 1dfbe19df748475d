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
   *  @param {() => void} signedOut called when the login session turns out to be over */
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
    // A path is below the server's own, which need not be the root.
    const url = new URL(given ? given.url : String(input).replace(/^\/(?![/\\])/, './'), base);
    if (url.origin !== base.origin || !url.pathname.startsWith(base.pathname)) {
      return fetch(given ?? url.href, init);
    }
    // What can be read once only is kept for the second try.
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
    const late = new AbortController(); // an answer that has begun may take its time
    const timer = setTimeout(() => late.abort(), timeoutMs);
    const { signal } = init;
    try {
      return await fetch(target, {
        ...init, headers, signal: signal ? either(signal, late.signal) : late.signal,
        // A redirect could lead to another origin, and a token must not.
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

  /** @returns {Promise<string>} the access token; '': cookies, or nobody is signed in */
  async #token() {
    const login = this.#login;
    if (login instanceof TokenLogin) return login.credential(false);
    return login instanceof KeptLogin ? login.mark() : '';
  }

  /** @param {Response} answer a 401  @param {string} used the credential's mark
   *  @returns {Promise<boolean>} whether another try makes sense */
  async #renewed(answer, used) {
    const login = this.#login;
    const { code } = refusal(answer, parsed(await answer.clone().text()));
    if (!RENEWABLE.has(code) || (login instanceof KeptLogin && !used)) return false;
    if (login.mark() !== used) return true; // somebody else has renewed it meanwhile
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
  return AbortSignal.any?.([given, late]) ?? given; // browsers of before 2024 have no `any`
}

/** @param {unknown} input  @returns {boolean} */
function isRequest(input) { return typeof input === 'object' && input !== null && 'clone' in input; }

/** @param {any} body  @returns {boolean} */
function isStream(body) { return typeof body?.getReader === 'function'; }
