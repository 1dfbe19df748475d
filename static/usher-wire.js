/**
 * What usher.js knows of the wire: limits, close codes, errors. No input, no output.
 *
 * @typedef {'never'|'login'|'refresh'|'backoff'} RetryClass
 * @typedef {{code: number, reason: string, retry?: RetryClass, after?: number,
 *   error?: UsherError}} End
 *   how a connection, or the attempt at one, ended; after: seconds
 */

export const PROTOCOL = 'usher.v1';
export const MAX_FRAME_BYTES = 64 * 1024;
/** Of the pauses that a server may ask for. */
export const LONGEST_PAUSE_SECONDS = 3600;

/** Retry class by Usher's close codes (docs/protocol.md). Every other code is one that something
 *  between here and Usher made, or a connection that was lost: back-off.
 *  @type {Readonly<Record<number, RetryClass>>} */
export const RETRY = Object.freeze({
  1009: 'never', 4400: 'never', 4401: 'login', 4403: 'never', 4409: 'never', 4410: 'login',
  4419: 'refresh',
});

const CLASSES = new Set(['never', 'login', 'refresh', 'backoff']);

/** @param {End} end  @returns {RetryClass} the server's own word, or that of the close code */
export function retryOf({ retry, code }) {
  return retry !== undefined && CLASSES.has(retry) ? retry : RETRY[code] ?? 'backoff';
}

/** What went wrong. */
export class UsherError extends Error {
  /** @param {string} code  @param {string} [message]
   *  @param {{status?: number, after?: number, why?: End, cause?: unknown, problem?: any}} [more]
   *    after: seconds */
  constructor(code, message = code, { status, after, why, cause, problem } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'UsherError';
    /** A machine word: Usher's own, or one of this client. */
    this.code = code;
    /** The HTTP status, where there was one. */
    this.status = status;
    /** Seconds until another try makes sense, where the server said so. */
    this.after = after;
    /** How the connection ended, of an error of `connect`. */
    this.why = why;
    /** The problem document (RFC 9457), where Usher answered with one.  @type {any} */
    this.problem = problem;
  }

  /** @returns {number | undefined} seconds until another try makes sense, where it is known */
  get retryAfter() { return this.after; }
}

/** What cannot work however often it is tried. @param {string} message  @param {unknown} [cause] */
export const misuse = (message, cause) => new UsherError('misuse', message, { cause });

/** What an answer of Usher's own (RFC 9457) means for a connection, by its `code`.
 *  @type {Record<string, {code: number, reason: string}>} */
const ENDS = {
  misuse: { code: 4400, reason: 'misuse' },
  bad_request: { code: 4400, reason: 'bad_request' },
  unauthenticated: { code: 4401, reason: 'unauthenticated' },
  token_expired: { code: 4401, reason: 'unauthenticated' }, // of a refresh: it cannot be renewed
  forbidden: { code: 4403, reason: 'forbidden' },
  origin_refused: { code: 4403, reason: 'forbidden' },
  identity_mismatch: { code: 4401, reason: 'identity_mismatch' },
  rate_limited: { code: 4429, reason: 'rate_limited' },
  unavailable: { code: 4503, reason: 'unavailable' },
};

/** Reads an error of getting a credential as if the server had closed the socket with it. Only an
 *  answer of Usher's own may end a client: a proxy's 404 in the middle of a deployment may not.
 *  @param {any} error  @returns {End} */
export function endOf(error) {
  const { code, status, after } = error;
  const known = Object.hasOwn(ENDS, code) ? ENDS[code] : undefined;
  if (known) return { ...known, after, error };
  return status ? { code: 4503, reason: 'unavailable', after, error }
    : { code: 1006, reason: 'unreachable', error };
}

/** A frame as it may be shown: nobody's screen or log should hold a usable credential.
 *  @param {string} text  @returns {any} */
export function redacted(text) {
  return JSON.parse(text, (key, value) => {
    if (typeof value !== 'string') return value;
    const secret = /token|ticket|password|secret/i.test(key) || /^eyJ[\w-]+\.[\w-]+\./.test(value);
    return secret ? '[hidden]' : value;
  });
}
