/**
 * What usher.js knows of the wire: limits, close codes, errors. No input, no output.
 *
 * @typedef {'never'|'login'|'refresh'|'backoff'} RetryClass
 * @typedef {{code: number, reason: string, retry?: RetryClass, after?: number}} End
 *   how a connection, or the attempt at one, ended; after: seconds
 */

export const PROTOCOL = 'usher.v1';
export const MAX_FRAME_BYTES = 64 * 1024;

/** Retry class by close code (docs/protocol.md, RFC 6455 section 7.4.1). Others: backoff.
 *  @type {Readonly<Record<number, RetryClass>>} */
export const RETRY = Object.freeze({
  1000: 'never', 1002: 'never', 1003: 'never', 1007: 'never', 1008: 'never', 1009: 'never',
  1010: 'never', 4400: 'never', 4401: 'login', 4403: 'never', 4409: 'never', 4410: 'login',
  4419: 'refresh',
});

/** What went wrong: `code` is a machine word, `status` the HTTP status where there was one. */
export class UsherError extends Error {
  /** @param {string} code  @param {string} [message]
   *  @param {{status?: number, after?: number, why?: End}} [more]  after: seconds */
  constructor(code, message = code, { status, after, why } = {}) {
    super(message);
    this.name = 'UsherError';
    this.code = code;
    this.status = status;
    this.after = after;
    this.why = why;
  }
}

/** Reads an error of an HTTP call as if the server had closed the socket with it.
 *  @param {any} error  @returns {End} */
export function endOf({ status, after }) {
  if (!status) return { code: 1006, reason: 'unreachable' };
  if (status === 401) return { code: 4401, reason: 'unauthenticated' };
  if (status === 403) return { code: 4403, reason: 'forbidden' };
  if (status === 429) return { code: 4429, reason: 'rate_limited', after };
  return status >= 500 ? { code: 4503, reason: 'unavailable', after }
    : { code: 4400, reason: 'bad_request' };
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
