/** The exports of the package and of /client/usher.js. */

export { Usher, VERSION, createUsher } from './usher-app.js';
export { Room } from './usher-room.js';
export { MAX_FRAME_BYTES, PROTOCOL, RETRY, UsherClient, UsherError } from './usher.js';
