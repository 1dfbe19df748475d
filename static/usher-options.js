/** The options of usher.js. Invalid ones are reported at once, and not retried for ever. */

import { misuse } from './usher-wire.js';

const DEFAULTS = {
  baseUrl: undefined, getToken: undefined, login: undefined, present: 'subprotocol', WebSocket: undefined,
  fetch: undefined, heartbeatMs: 12_500, timeoutMs: 10_000, backoffMs: 500,
  maxBackoffMs: 30_000, maxPending: 256,
};
const NUMBERS = ['heartbeatMs', 'timeoutMs', 'backoffMs', 'maxBackoffMs', 'maxPending'];
const FUNCTIONS = ['getToken', 'WebSocket', 'fetch'];
const SCHEMES = new Map([['http:', 'http:'], ['https:', 'https:'], ['ws:', 'http:'],
  ['wss:', 'https:']]);

/** @param {object} given  @param {string} [name] the name of the option for the URL
 *  @returns {any} the options with their defaults; `base` is a URL
 *  @throws {UsherError} misuse */
export function withDefaults(given, name = 'baseUrl') {
  const { location, WebSocket, fetch } = globalThis;
  const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const unknown = Object.keys(named).find((name) => !Object.hasOwn(DEFAULTS, name));
  if (unknown) throw misuse(`There is no option ${unknown}.`);
  /** @type {any} */
  const options = { ...DEFAULTS, baseUrl: location?.origin, WebSocket, fetch, ...named };
  for (const one of FUNCTIONS) {
    const value = options[one];
    if (value !== undefined && typeof value !== 'function') throw misuse(`${one} is no function.`);
  }
  for (const one of NUMBERS) {
    if (!(options[one] > 0)) throw misuse(`${one} is no number above 0.`);
  }
  if (!['subprotocol', 'user-join'].includes(options.present)) {
    throw misuse('present is neither subprotocol nor user-join.');
  }
  return { ...options, base: baseOf(options.baseUrl, location?.href, name) };
}

/** @param {any} options  @param {boolean} socket whether a socket is needed
 *  @param {string} [name] the name of the option for the URL
 *  @returns {import('./usher-wire.js').UsherError | null} what is missing to call the server */
export function missing({ base, getToken, login, WebSocket, fetch }, socket, name = 'baseUrl') {
  if (!base) return misuse(`There is no page here whose origin could be the server: give ${name}.`);
  if (socket && !WebSocket) {
    return misuse('There is no WebSocket here: pass one as the option WebSocket, such as that of '
      + 'the package ws. Browsers and Node 22 have their own.');
  }
  if (!getToken && !login && !fetch) return misuse('There is no fetch here: pass one as the option fetch.');
  return null;
}

/** @param {string | URL | undefined} baseUrl  @param {string | undefined} page the page's own
 *    URL  @param {string} name the name of the option
 *  @returns {URL | null} with a path that ends with a slash, because the server may have a prefix */
function baseOf(baseUrl, page, name) {
  if (!baseUrl || baseUrl === 'null') return null; // the origin of a page from a file is 'null'
  let base;
  try {
    base = new URL(baseUrl, page);
  } catch (cause) {
    throw misuse(`${name} is no address: ${baseUrl}`, cause);
  }
  const scheme = SCHEMES.get(base.protocol);
  if (!scheme || base.search || base.hash || base.username || base.password) {
    throw misuse(`${name} is http or https, without user, query and fragment: ${baseUrl}`);
  }
  base.protocol = scheme;
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return base;
}
