/** The package for Node: the same, with the WebSocket of `ws` if Node has none. */

import { createRequire } from 'node:module';
import { UsherError, createUsher as create } from './usher-index.js';

export * from './usher-index.js';

/** Creates a client.
 *  @param {import('./usher-app.js').Settings} [settings]
 *  @throws {UsherError} misuse: also on Node 20 without the package ws */
export function createUsher(settings = {}) {
  const WebSocket = settings.WebSocket ?? globalThis.WebSocket ?? ofPeer();
  return create({ ...settings, WebSocket });
}

/** @returns {typeof globalThis.WebSocket} */
function ofPeer() {
  try {
    return createRequire(import.meta.url)('ws');
  } catch (cause) {
    throw new UsherError('misuse', `Node ${process.versions.node} has no WebSocket: `
      + 'npm install ws, or use Node 22.', { cause });
  }
}
