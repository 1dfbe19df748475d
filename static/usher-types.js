/**
 * The types of usher.js.
 *
 * @typedef {import('./usher-wire.js').UsherError} UsherError
 * @typedef {{code: number, reason: string, retry: import('./usher-wire.js').RetryClass,
 *   error?: UsherError}} Why
 *   why a connection ended; error: set if getting a credential failed
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
 * @typedef {object} Login  a source of credentials
 * @property {'ticket' | 'token'} gives the kind of credential
 * @property {(renew: boolean) => Promise<string>} credential `renew`: a newer one than the last
 * @property {() => Promise<void>} refresh
 *
 * @typedef {object} UsherOptions
 * @property {string} [baseUrl] the server, including the path prefix, if any; default: the page's
 *   own origin
 * @property {(want: {renew: boolean}) => Promise<string>} [getToken] an access token instead of
 *   cookies; `renew` asks for a newer one than the last. An error with `status: 401` means that
 *   the user has to sign in; one with another status, or of the network, is retried. Any other
 *   counts as a mistake in getToken until the client has joined once.
 * @property {Login} [login] instead of getToken: the source of credentials
 * @property {'subprotocol'|'user-join'} [present] how a token from getToken is presented
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [heartbeatMs] mean interval of heartbeats, ± 20 %; 12,500
 * @property {number} [timeoutMs] for a request, an HTTP call, getToken, received data, and from
 *   opening the socket to `joined`; 10,000
 * @property {number} [backoffMs] upper limit of the first pause; it doubles each time; 500
 * @property {number} [maxBackoffMs] highest upper limit; 30,000
 * @property {number} [maxPending] how many requests may wait for a reply at once; 256
 */

export {};
