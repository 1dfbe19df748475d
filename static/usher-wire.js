/**
 * The protocol: limits, close codes, errors. It does no I/O.
 *
 * @typedef {'never'|'login'|'refresh'|'backoff'} RetryClass
 * @typedef {{code: number, reason: string, retry?: RetryClass, after?: number,
 *   error?: UsherError}} End
 *   how a connection, or an attempt to connect, ended; after: seconds
 */

export const PROTOCOL = 'usher.v1';
export const MAX_FRAME_BYTES = 64 * 1024;
/** The longest pause that a server may request. */
export const LONGEST_PAUSE_SECONDS = 3600;

/** The retry class of each of Usher's close codes (docs/protocol.md). Any other code comes from
 *  something in between, or means a lost connection: back-off.
 *  @type {Readonly<Record<number, RetryClass>>} */
export const RETRY = Object.freeze({
  1009: 'never', 4400: 'never', 4401: 'login', 4403: 'never', 4409: 'never', 4410: 'login',
  4419: 'refresh',
});

const CLASSES = new Set(['never', 'login', 'refresh', 'backoff']);

/** @param {End} end  @returns {RetryClass} sent by the server, or that of the close code */
export function retryOf({ retry, code }) {
  return retry !== undefined && CLASSES.has(retry) ? retry : RETRY[code] ?? 'backoff';
}

/** Every error of the client. */
export class UsherError extends Error {
  /** @param {string} code  @param {string} [message]
   *  @param {{status?: number, after?: number, why?: End, cause?: unknown, problem?: any}} [more]
   *    after: seconds */
  constructor(code, message = code, { status, after, why, cause, problem } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'UsherError';
    /** A fixed word, of Usher or of this client. */
    this.code = code;
    /** The HTTP status, if there was one. */
    this.status = status;
    /** Seconds to wait before a retry, if the server sent them. */
    this.after = after;
    /** How the connection ended, for an error of `connect`. */
    this.why = why;
    /** The problem document (RFC 9457), if Usher sent one.  @type {any} */
    this.problem = problem;
  }

  /** @returns {number | undefined} seconds to wait before a retry, if known */
  get retryAfter() { return this.after; }
}

/** A mistake of the app, which no retry can fix. @param {string} message  @param {unknown} [cause] */
export const misuse = (message, cause) => new UsherError('misuse', message, { cause });

/** What an error response of Usher (RFC 9457) means for a connection, by its `code`.
 *  @type {Record<string, {code: number, reason: string}>} */
const ENDS = {
  misuse: { code: 4400, reason: 'misuse' },
  bad_request: { code: 4400, reason: 'bad_request' },
  unauthenticated: { code: 4401, reason: 'unauthenticated' },
  token_expired: { code: 4401, reason: 'unauthenticated' }, // of a refresh: it cannot be refreshed
  forbidden: { code: 4403, reason: 'forbidden' },
  origin_refused: { code: 4403, reason: 'forbidden' },
  identity_mismatch: { code: 4401, reason: 'identity_mismatch' },
  rate_limited: { code: 4429, reason: 'rate_limited' },
  unavailable: { code: 4503, reason: 'unavailable' },
};

/** Converts an error of getting a credential to the end that Usher would have sent. Only a response
 *  of Usher may end a client; a proxy's 404 during a deployment may not.
 *  @param {any} error  @returns {End} */
export function endOf(error) {
  const { code, status, after } = error;
  const known = Object.hasOwn(ENDS, code) ? ENDS[code] : undefined;
  if (known) return { ...known, after, error };
  return status ? { code: 4503, reason: 'unavailable', after, error }
    : { code: 1006, reason: 'unreachable', error };
}

/** Masks a frame, so that no screen or log contains a usable credential.
 *  @param {string} text  @returns {any} */
export function redacted(text) {
  return JSON.parse(text, (key, value) => {
    if (typeof value !== 'string') return value;
    const secret = /token|ticket|password|secret/i.test(key) || /^eyJ[\w-]+\.[\w-]+\./.test(value);
    return secret ? '[hidden]' : value;
  });
}
