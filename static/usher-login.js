/** The HTTP side of usher.js: renews the login cookies, fetches tickets. Used through usher.js. */

import { UsherError } from './usher-wire.js';

const REFRESH_LOCK = 'usher-refresh';

/** A browser's login: HttpOnly cookies that no script can read. */
export class CookieLogin {
  /** @type {Promise<void>|null} */ #flight = null;

  /** @param {{baseUrl: string, fetch: typeof globalThis.fetch, timeoutMs: number}} options */
  constructor(options) { this.options = options; }

  /** Renews the cookies; one flight at a time, across tabs too (a refresh token is used once,
   *  so parallel flights would race).  @returns {Promise<void>} */
  refresh() {
    this.#flight ??= this.#refreshAlone().finally(() => { this.#flight = null; });
    return this.#flight;
  }

  async #refreshAlone() {
    const asked = Date.now();
    const refresh = async () => {
      if (lastRefresh() > asked) return; // another tab did it while we waited: same cookies
      await this.post('/api/auth/refresh');
      lastRefresh(Date.now());
    };
    const locks = globalThis.navigator?.locks; // only where the page is a secure context
    if (!locks) return refresh();
    const signal = AbortSignal.timeout(2 * this.options.timeoutMs);
    await locks.request(REFRESH_LOCK, { signal }, refresh);
  }

  /** @returns {Promise<string>} a single-use ticket */
  async ticket() {
    try {
      return (await this.post('/api/ws/ticket')).ticket;
    } catch (error) {
      if (/** @type {UsherError} */ (error).status !== 401) throw error;
    }
    await this.refresh();
    return (await this.post('/api/ws/ticket')).ticket;
  }

  /** @param {string} path  @returns {Promise<any>} rejects with UsherError, or a network error */
  async post(path) {
    const { fetch, baseUrl, timeoutMs } = this.options;
    const answer = await fetch(new URL(path, baseUrl).href, {
      method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json' },
      credentials: 'include', signal: AbortSignal.timeout(timeoutMs),
    });
    const body = await answer.json().catch(() => ({})); // a proxy's error page is not JSON
    if (answer.ok) return body;
    const after = Number(answer.headers.get('Retry-After')) || undefined;
    throw new UsherError(body.code ?? 'http_error', body.title, { status: answer.status, after });
  }
}

/** When any tab last refreshed, by way of localStorage where there is one: a time, no secret.
 *  @param {number} [now]  @returns {number} epoch milliseconds */
function lastRefresh(now) {
  try {
    if (now) localStorage.setItem(REFRESH_LOCK, String(now));
    return Number(localStorage.getItem(REFRESH_LOCK)) || 0;
  } catch {
    return 0; // Node, or storage is blocked
  }
}
