/**
 * The types of usher.js.
 *
 * @typedef {import('./usher-wire.js').UsherError} UsherError
 * @typedef {{code: number, reason: string, retry: import('./usher-wire.js').RetryClass,
 *   error?: UsherError}} Why
 *   why a connection ended; error: of getting a credential, where that is what failed
 * @typedef {{id: string, name: string, role: string}} User
 * @typedef {{session_id: string, user: User, rooms: string[], expires_at: number}} Session
 *   expires_at: epoch seconds by the server's clock; see `expiresIn`
 * @typedef {{event: string, data?: any, room?: string}} ServerEvent
 * @typedef {{promise: Promise<Session>, resolve: Function, reject: Function}} Deferred
 * @typedef {{direction: 'in'|'out', frame: any, size: number}} UsherFrame  size in bytes
 * @typedef {{name: 'idle'}
 *   | {name: 'connecting', attempt: number}
 *   | {name: 'joined', session: Session}
 *   | {name: 'refreshing', live: boolean}
 *   | ({name: 'waiting', retryAt: number, attempt: number, offline: boolean} & Why)
 *   | ({name: 'closed'} & Why)} UsherState  retryAt: epoch milliseconds by this machine's clock
 *
 * @typedef {object} Login  where credentials come from
 * @property {'ticket' | 'token'} gives what a credential is
 * @property {(renew: boolean) => Promise<string>} credential `renew`: a newer one than the last
 * @property {() => Promise<void>} refresh
 *
 * @typedef {object} UsherOptions
 * @property {string} [baseUrl] the server, with the path that it is below; default: the page's
 *   own origin
 * @property {(want: {renew: boolean}) => Promise<string>} [getToken] an access token instead of
 *   cookies; `renew` asks for a newer one than the last. An error with `status: 401` means that
 *   the user has to sign in; one with another status, or of the network, is tried again. Any
 *   other is taken for a mistake in it until the client has joined once.
 * @property {Login} [login] in place of getToken: where the credentials come from
 * @property {'subprotocol'|'user-join'} [present] how a token from getToken is presented
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [heartbeatMs] mean pause between heartbeats, ± 20 %; 12,500
 * @property {number} [timeoutMs] for a request, an HTTP call, getToken, a sign of life, and from
 *   the socket's beginning to joined; 10,000
 * @property {number} [backoffMs] ceiling of the first pause, doubled each time; 500
 * @property {number} [maxBackoffMs] highest ceiling; 30,000
 * @property {number} [maxPending] requests that may wait for a reply at once; 256
 */

export {};
