/** The options of usher.js: what cannot work is said at once, not tried for ever. */

import { misuse } from './usher-wire.js';

const DEFAULTS = {
  baseUrl: undefined, getToken: undefined, present: 'subprotocol', WebSocket: undefined,
  fetch: undefined, heartbeatMs: 12_500, timeoutMs: 10_000, backoffMs: 500,
  maxBackoffMs: 30_000, maxPending: 256,
};
const NUMBERS = ['heartbeatMs', 'timeoutMs', 'backoffMs', 'maxBackoffMs', 'maxPending'];
const FUNCTIONS = ['getToken', 'WebSocket', 'fetch'];
const SCHEMES = new Map([['http:', 'http:'], ['https:', 'https:'], ['ws:', 'http:'],
  ['wss:', 'https:']]);

/** @param {object} given  @returns {any} the options with their defaults; `base` is a URL
 *  @throws {UsherError} misuse */
export function withDefaults(given) {
  const { location, WebSocket, fetch } = globalThis;
  const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const unknown = Object.keys(named).find((name) => !Object.hasOwn(DEFAULTS, name));
  if (unknown) throw misuse(`There is no option ${unknown}.`);
  const options = { ...DEFAULTS, baseUrl: location?.origin, WebSocket, fetch, ...named };
  for (const name of FUNCTIONS) {
    const value = options[name];
    if (value !== undefined && typeof value !== 'function') throw misuse(`${name} is no function.`);
  }
  for (const name of NUMBERS) {
    if (!(options[name] > 0)) throw misuse(`${name} is no number above 0.`);
  }
  if (!['subprotocol', 'user-join'].includes(options.present)) {
    throw misuse('present is neither subprotocol nor user-join.');
  }
  return { ...options, base: baseOf(options.baseUrl, location?.href) };
}

/** @param {any} options  @param {boolean} socket whether a socket is wanted
 *  @returns {UsherError | null} what is missing to call the server */
export function missing({ base, getToken, WebSocket, fetch }, socket) {
  if (!base) return misuse('There is no page here whose origin could be the server: give baseUrl.');
  if (socket && !WebSocket) {
    return misuse('There is no WebSocket here: give one as the option WebSocket, such as that of '
      + 'the package ws. Browsers and Node 22 have their own.');
  }
  if (!getToken && !fetch) return misuse('There is no fetch here: give one as the option fetch.');
  return null;
}

/** @param {string | URL | undefined} baseUrl  @param {string} [page] the page's own address
 *  @returns {URL | null} with a path that ends in a slash: the server may be below one */
function baseOf(baseUrl, page) {
  if (!baseUrl || baseUrl === 'null') return null; // the origin of a page from a file is 'null'
  let base;
  try {
    base = new URL(baseUrl, page);
  } catch (cause) {
    throw misuse(`baseUrl is no address: ${baseUrl}`, cause);
  }
  const scheme = SCHEMES.get(base.protocol);
  if (!scheme || base.search || base.hash || base.username || base.password) {
    throw misuse(`baseUrl is http or https, without user, query and fragment: ${baseUrl}`);
  }
  base.protocol = scheme;
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return base;
}
