/**
 * The state machine of a client's connections, without sockets and timers: `step` is a function of
 * the current state and an event. Used through usher.js.
 *
 * @typedef {import('./usher-wire.js').End} End
 * @typedef {'idle'|'connecting'|'joined'|'renewing'|'waiting'|'closed'} LifeName
 *   renewing: joined, while a newer token is being fetched for the live socket
 * @typedef {object} Life
 * @property {LifeName} name
 * @property {number} attempt the number of failed connections since the last stable one
 * @property {boolean} renew whether the next attempt needs a newer credential than the last
 * @property {boolean} proven whether this client has joined before, so its options are valid
 * @property {End} [end] how the last connection ended, while waiting or closed
 *
 * @typedef {{type: 'connect'|'credential'|'joined'|'lasted'|'expiring'|'renewed'|'due'|'online'
 *   |'offline'|'close'} | {type: 'lost'|'not-renewed', end: End}} LifeEvent
 *   credential: there is one for this attempt · lasted: a later heartbeat was answered
 *   lost: the connection or the attempt has ended · due: the pause is over
 * @typedef {'open'|'wait'|'soon'|'finish'|'renew'|'renew-later'|'stay'|'look'} Act
 *   soon: the pause is shortened · stay: no change · look: check whether the connection is alive
 * @typedef {{life: Life, act: Act | null}} Step
 */

import { retryOf } from './usher-wire.js';

const MAX_ATTEMPT = 30; // 2 ** 30 exceeds every upper limit of a pause

/** @type {Life} */
export const BEGINNING = Object.freeze({ name: 'idle', attempt: 0, renew: false, proven: false });

/** @param {Life} life  @param {Partial<Life>} change  @param {Act | null} [act]  @returns {Step} */
const to = (life, change, act = null) => ({ life: { ...life, ...change }, act });

/** @param {Life} life */
const open = (life) => to(life, { name: 'connecting', end: undefined }, 'open');

/** @param {Life} life */
const begin = (life) => open({ ...life, attempt: 0, renew: false });

/** @param {Life} life */
const look = (life) => to(life, {}, 'look');

/** @param {Life} life */
const close = (life) => to(life, {
  name: 'closed', renew: false, end: { code: 1000, reason: 'closed_by_client', retry: 'never' },
}, 'finish');

/** A connection has ended: its retry class decides. @param {Life} life  @param {any} event */
function lost(life, { end }) {
  let retry = retryOf(end);
  // The options have worked before, so later errors of getToken are retried.
  if (end.reason === 'misuse' && life.proven) retry = 'backoff';
  if (retry === 'never' || retry === 'login') {
    return to(life, { name: 'closed', renew: false, end: { ...end, retry } }, 'finish');
  }
  const renew = life.renew || retry === 'refresh';
  // An expired token is refreshed at once, but only once. After that, back-off applies.
  if (retry === 'refresh' && life.attempt === 0) return open({ ...life, renew, attempt: 1 });
  const attempt = Math.min(life.attempt + 1, MAX_ATTEMPT);
  return to(life, { name: 'waiting', renew, attempt, end: { ...end, retry } }, 'wait');
}

/** The live socket keeps its old token. @param {Life} life  @param {any} event */
function notRenewed(life, event) {
  // The cookies now belong to another sign-in: this socket must not continue as the previous user.
  if (event.end.reason === 'identity_mismatch') return lost(life, event);
  // If the login session has ended, the server closes the socket with the reason.
  return to(life, { name: 'joined' }, retryOf(event.end) === 'login' ? 'stay' : 'renew-later');
}

/** @type {(life: Life) => Step} */
const joined = (life) => to(life, { name: 'joined', renew: false, proven: true });

/** @type {(life: Life) => Step} */
const lasted = (life) => to(life, { attempt: 0 });

const LIVE = { lasted, lost, close, online: look, offline: look };

/** All transitions. A state ignores the events that it does not list.
 *  @type {Record<LifeName, Partial<Record<LifeEvent['type'], (life: Life, event: any) => Step>>>} */
export const TRANSITIONS = {
  idle: { connect: begin },
  connecting: { credential: (life) => to(life, { renew: false }), joined, lost, close },
  joined: { ...LIVE, expiring: (life) => to(life, { name: 'renewing' }, 'renew') },
  renewing: { ...LIVE, renewed: (life) => to(life, { name: 'joined' }), 'not-renewed': notRenewed },
  waiting: { connect: open, due: open, online: (life) => to(life, {}, 'soon'), close },
  closed: { connect: begin },
};

/** @param {Life} life  @param {LifeEvent} event  @returns {Step} */
export function step(life, event) {
  return TRANSITIONS[life.name][event.type]?.(life, event) ?? { life, act: null };
}
