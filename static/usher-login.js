/** Where usher.js gets its credentials: a browser's cookies, or a function of the page's own. */

import { UsherError, misuse } from './usher-wire.js';

const REFRESH_LOCK = 'usher-refresh';
const PROBLEM = 'application/problem+json';
const LONGEST_PAUSE_SECONDS = 3600;
const WAITED_MS = 5;
const STORED_MS = 100;

/** A browser's login: HttpOnly cookies that no script can read. */
export class CookieLogin {
  /** @type {Promise<void>|null} */ #flight = null;

  /** @param {{base: URL, fetch: typeof globalThis.fetch, timeoutMs: number}} options */
  constructor(options) { this.options = options; }

  /** Renews the cookies; one flight at a time, across tabs too (a refresh token is used once,
   *  so parallel flights would race).  @returns {Promise<void>} */
  refresh() {
    this.#flight ??= this.#refreshAlone().finally(() => { this.#flight = null; });
    return this.#flight;
  }

  async #refreshAlone() {
    const before = lastRefresh();
    const asked = performance.now();
    let begun = false;
    const refresh = async () => {
      begun = true;
      // What another tab has stored reaches this one a little after the lock that it let go of.
      if (performance.now() - asked > WAITED_MS) await pause(STORED_MS);
      if (lastRefresh() !== before) return; // another tab did it while we waited: same cookies
      const { expires_in: expiresIn } = await this.#post('api/auth/refresh');
      if (typeof expiresIn !== 'number') throw new UsherError('http_error');
      markRefresh();
    };
    const locks = globalThis.navigator?.locks; // only where the page is a secure context
    if (!locks) return refresh();
    const signal = AbortSignal.timeout(this.options.timeoutMs);
    try {
      await locks.request(REFRESH_LOCK, { signal }, refresh);
    } catch (error) {
      if (begun) throw error;
      await refresh(); // a frozen tab may keep the lock for ever; the server bears two at once
    }
  }

  /** @param {boolean} renew  @returns {Promise<string>} a single-use ticket */
  async credential(renew) {
    if (renew) await this.refresh();
    else {
      try {
        return await this.#ticket();
      } catch (error) {
        const { code } = /** @type {UsherError} */ (error);
        if (code !== 'unauthenticated' && code !== 'token_expired') throw error;
      }
      await this.refresh();
    }
    return this.#ticket();
  }

  async #ticket() {
    const { ticket } = await this.#post('api/ws/ticket');
    if (typeof ticket !== 'string') throw new UsherError('http_error');
    return ticket;
  }

  /** @param {string} path  @returns {Promise<any>} rejects with UsherError: the code of an answer
   *    that is Usher's own, `http_error` of any other, `unreachable` where there was none */
  async #post(path) {
    const { fetch, base, timeoutMs } = this.options;
    let answer;
    let body;
    try {
      answer = await fetch(new URL(path, base).href, {
        method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json' },
        credentials: 'include', signal: AbortSignal.timeout(timeoutMs),
      });
      body = JSON.parse(await answer.text() || 'null');
    } catch (cause) {
      if (!answer) throw new UsherError('unreachable', undefined, { cause });
    }
    const { status, headers } = answer;
    if (answer.ok && body) return body; // else it is a captive portal's, or a proxy's page
    const own = headers.get('Content-Type')?.startsWith(PROBLEM) && typeof body?.code === 'string';
    throw new UsherError(own ? body.code : 'http_error', own ? body.title : undefined,
      { status, after: retryAfter(headers) });
  }
}

/** An access token from a function of the page's own. */
export class TokenLogin {
  /** @type {Promise<string>|null} */ #renewal = null;

  /** @param {{getToken: (want: {renew: boolean}) => Promise<string>, timeoutMs: number}} options */
  constructor(options) { this.options = options; }

  /** Asks for a newer token.  @returns {Promise<void>} */
  async refresh() { await this.credential(true); }

  /** @param {boolean} renew  @returns {Promise<string>} */
  credential(renew) {
    if (!renew) return this.#ask(false);
    this.#renewal ??= this.#ask(true).finally(() => { this.#renewal = null; });
    return this.#renewal;
  }

  /** @param {boolean} renew  @returns {Promise<string>} */
  async #ask(renew) {
    const { getToken, timeoutMs } = this.options;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new UsherError('unreachable', 'getToken took too long.')),
        timeoutMs);
    });
    let token;
    try {
      token = await Promise.race([late, Promise.resolve(getToken({ renew }))]);
    } catch (error) {
      throw refusalOf(error);
    } finally {
      clearTimeout(timer);
    }
    if (typeof token === 'string' && token) return token;
    throw misuse('getToken gave no token. Where the user has to sign in, let it throw an error '
      + 'with status 401.');
  }
}

/** What an error of getToken means.  @param {any} error  @returns {UsherError} */
function refusalOf(error) {
  if (error instanceof UsherError && error.code !== 'misuse') return error;
  const status = error?.status ?? error?.response?.status;
  if (typeof status === 'number' && status >= 400) {
    const after = error.after;
    return new UsherError(status === 401 ? 'unauthenticated' : 'http_error', error.message,
      { status, after, cause: error });
  }
  if (ofNetwork(error)) return new UsherError('unreachable', error.message, { cause: error });
  return misuse(`getToken threw: ${error?.message ?? error}`, error);
}

/** Whether an error is one that fetch, or a library like it, throws when the network fails, or
 *  that comes of a proxy's page where JSON was to be. A TypeError alone tells nothing.
 *  @param {any} error */
function ofNetwork(error) {
  const { name = '', code, message = '' } = error ?? {};
  if (['AbortError', 'TimeoutError', 'NetworkError', 'SyntaxError'].includes(name)) return true;
  if (typeof code === 'string' && /^(E[A-Z]{4,}|ERR_NETWORK|UND_ERR_\w+)$/.test(code)) return true;
  return name === 'TypeError' && NETWORK_FAILURES.test(message);
}

/** The words of Chromium, Firefox, Safari, Node, Deno, Bun and React Native. */
const NETWORK_FAILURES = new RegExp('^(Failed to fetch|fetch failed|Load failed|terminated$'
  + '|error sending request for url| ?A network error occurred)|network ?error'
  + '|Network request failed|network connection|Internet connection', 'i');

/** @param {number} ms  @returns {Promise<void>} */
function pause(ms) {
  return new Promise((resume) => { setTimeout(resume, ms); });
}

/** @param {Headers} headers  @returns {number | undefined} seconds (RFC 9110 section 10.2.3) */
function retryAfter(headers) {
  const text = headers.get('Retry-After') ?? '';
  const from = Date.parse(headers.get('Date') ?? '') || Date.now();
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - from) / 1000;
  return seconds > 0 ? Math.min(seconds, LONGEST_PAUSE_SECONDS) : undefined;
}

/** @returns {string | null} changes with each refresh of any tab. It is no time: a clock that is
 *  set back would make all refreshes of the future count as done. */
function lastRefresh() {
  try {
    return localStorage.getItem(REFRESH_LOCK);
  } catch {
    return null; // Node, or storage is blocked
  }
}

function markRefresh() {
  try {
    localStorage.setItem(REFRESH_LOCK, Math.random().toString(36).slice(2));
  } catch {} // as above
}
