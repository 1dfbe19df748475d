/** The sources of usher.js's credentials: a browser's cookies, or a function of the page. */

import { LONGEST_PAUSE_SECONDS, UsherError, misuse } from './usher-wire.js';

const REFRESH_LOCK = 'usher-refresh';
const PROBLEM = 'application/problem+json';
const WAITED_MS = 5;
const STORED_MS = 100;

/** A browser's login: HttpOnly cookies, which scripts cannot read. */
export class CookieLogin {
  gives = /** @type {const} */ ('ticket');
  /** @type {Promise<void>|null} */ #flight = null;
  #renewals = 0;

  /** @param {{base: URL, fetch: typeof globalThis.fetch, timeoutMs: number}} options */
  constructor(options) {
    this.options = options;
    // The tabs of one origin share its locks and its storage. So do the servers that they use, each
    // of which has cookies of its own: below different paths of one host, for instance.
    const { href } = options.base;
    this.lock = href === `${globalThis.location?.origin}/` ? REFRESH_LOCK : `${REFRESH_LOCK} ${href}`;
  }

  /** Identifies the current cookies: it changes when they do. */
  mark() { return `${this.#renewals} ${lastRefresh(this.lock)}`; }

  /** Refreshes the cookies, once at a time over all tabs, because a refresh token works only once.
   *  @returns {Promise<void>} */
  refresh() {
    this.#flight ??= this.#refreshAlone().finally(() => { this.#flight = null; });
    return this.#flight;
  }

  async #refreshAlone() {
    const before = lastRefresh(this.lock);
    const asked = performance.now();
    let begun = false;
    const refresh = async () => {
      begun = true;
      await stored(asked);
      if (lastRefresh(this.lock) !== before) return; // another tab has refreshed the same cookies meanwhile
      const { expires_in: expiresIn } = await this.#post('api/auth/refresh');
      if (typeof expiresIn !== 'number') throw new UsherError('http_error');
      this.#renewals++;
      markRefresh(this.lock);
    };
    const locks = globalThis.navigator?.locks; // only in secure contexts
    if (!locks) return refresh();
    const signal = AbortSignal.timeout(this.options.timeoutMs);
    try {
      await locks.request(this.lock, { signal }, refresh);
    } catch (error) {
      if (begun) throw error;
      await refresh(); // a frozen tab may never release the lock; the server accepts two at once
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

  /** @param {string} path  @returns {Promise<any>} */
  async #post(path) { return bodyOf(await ask(this.options, path, { credentials: 'include' })); }
}

/**
 * One call to Usher's HTTP API.
 * @param {{base: URL, fetch: typeof globalThis.fetch, timeoutMs: number}} options
 * @param {string} path  @param {{method?: string, body?: object, token?: string,
 *   credentials?: RequestCredentials}} [call]
 * @returns {Promise<{status: number, body: any}>} a 2xx response; rejects with UsherError: the
 *   code of an error response of Usher, `http_error` for other responses, `unreachable` without
 *   a response */
export async function ask(options, path, { method = 'POST', body = {}, token, credentials } = {}) {
  const { fetch, base, timeoutMs } = options;
  /** @type {Record<string, string>} */
  const headers = method === 'GET' ? {} : { 'Content-Type': 'application/json' };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  let text;
  try {
    answer = await fetch(new URL(path, base).href, {
      method, headers, credentials: credentials ?? 'omit', signal: AbortSignal.timeout(timeoutMs),
      ...(method === 'GET' ? {} : { body: JSON.stringify(body) }),
    });
    text = await answer.text();
  } catch (cause) {
    throw new UsherError('unreachable', undefined, { cause });
  }
  if (answer.ok) return { status: answer.status, body: parsed(text) };
  throw refusal(answer, parsed(text));
}

/** The body of a response that must have one; otherwise it is a captive portal's or a proxy's page.
 *  @param {{status: number, body: any}} answer */
export function bodyOf({ status, body }) {
  if (body && typeof body === 'object') return body;
  throw new UsherError('http_error', undefined, { status });
}

/** The error of a response that is not 2xx.  @param {Response} answer  @param {any} body
 *  @returns {UsherError} */
export function refusal({ status, headers }, body) {
  const own = headers.get('Content-Type')?.startsWith(PROBLEM) && typeof body?.code === 'string';
  return new UsherError(own ? body.code : 'http_error', own ? body.detail ?? body.title : undefined,
    { status, after: retryAfter(headers), problem: own ? body : undefined });
}

/** @param {string} text  @returns {any} */
export function parsed(text) {
  try {
    return JSON.parse(text || 'null');
  } catch {
    return undefined;
  }
}

/** Access tokens from a function of the page. */
export class TokenLogin {
  gives = /** @type {const} */ ('token');
  /** @type {Promise<string>|null} */ #renewal = null;
  #last = '';

  /** @param {{getToken: (want: {renew: boolean}) => Promise<string>, timeoutMs: number}} options */
  constructor(options) { this.options = options; }

  /** The last returned token. */
  mark() { return this.#last; }

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
    if (typeof token === 'string' && token) return this.#last = token;
    throw misuse('getToken returned no token. If the user has to sign in, it must throw an error '
      + 'with status 401.');
  }
}

/** Converts an error of getToken.  @param {any} error  @returns {UsherError} */
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

/** Whether fetch, or a similar library, throws this error if the network fails, or if a proxy sends
 *  a page instead of JSON. A TypeError alone is not enough.
 *  @param {any} error */
function ofNetwork(error) {
  const { name = '', code, message = '' } = error ?? {};
  if (['AbortError', 'TimeoutError', 'NetworkError', 'SyntaxError'].includes(name)) return true;
  if (typeof code === 'string' && /^(E[A-Z]{4,}|ERR_NETWORK|UND_ERR_\w+)$/.test(code)) return true;
  return name === 'TypeError' && NETWORK_FAILURES.test(message);
}

/** The messages of Chromium, Firefox, Safari, Node, Deno, Bun and React Native. */
const NETWORK_FAILURES = new RegExp('^(Failed to fetch|fetch failed|Load failed|terminated$'
  + '|error sending request for url| ?A network error occurred)|network ?error'
  + '|Network request failed|network connection|Internet connection', 'i');

/** Values stored by another tab become visible a little after that tab has released the lock.
 *  Waits for them if the lock was not free.
 *  @param {number} asked when the lock was requested, by performance.now()
 *  @returns {Promise<void>} */
export async function stored(asked) {
  if (performance.now() - asked <= WAITED_MS) return;
  await new Promise((resume) => { setTimeout(resume, STORED_MS); });
}

/** @param {Headers} headers  @returns {number | undefined} seconds (RFC 9110 section 10.2.3) */
function retryAfter(headers) {
  const text = headers.get('Retry-After') ?? '';
  const from = Date.parse(headers.get('Date') ?? '') || Date.now();
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - from) / 1000;
  return seconds > 0 ? Math.min(seconds, LONGEST_PAUSE_SECONDS) : undefined;
}

/** @param {string} lock  @returns {string | null} changes with each refresh of any tab. It is not a
 *  time: if a clock were set back, later refreshes would count as already done. */
function lastRefresh(lock) {
  try {
    return localStorage.getItem(lock);
  } catch {
    return null; // Node, or storage is blocked
  }
}

/** @param {string} lock */
function markRefresh(lock) {
  try {
    localStorage.setItem(lock, Math.random().toString(36).slice(2));
  } catch {} // as above
}
