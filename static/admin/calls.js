/** The calls of administration. Acts are asked for a fresh proof by `Api`, where they need one. */

const enc = encodeURIComponent;

/** @param {Record<string, string|number|undefined|null>} members  @returns {string} */
function query(members) {
  const given = Object.entries(members).filter(([, value]) => value !== undefined && value !== null
    && value !== '');
  return given.length ? `?${new URLSearchParams(given.map(([k, v]) => [k, String(v)]))}` : '';
}

export class Calls {
  /** @param {import('../api.js').Api} api */
  constructor(api) { this.call = api.call; }

  overview = () => this.call('GET', '/api/admin/overview');
  settings = () => this.call('GET', '/api/admin/settings');

  /** @param {{q?: string, after?: string, limit?: number}} which */
  users = (which) => this.call('GET', `/api/admin/users${query({ order: 'newest', ...which })}`);
  /** Of these ids, those that are there.  @param {string[]} ids */
  usersById = (ids) => this.call('GET', `/api/admin/users?${new URLSearchParams(ids.map((id) => ['id', id]))}`);
  /** @param {{email: string, name: string}} form */
  openAccount = (form) => this.call('POST', '/api/admin/users', form);
  /** @param {string} id */
  user = (id) => this.call('GET', `/api/admin/users/${enc(id)}`);
  /** @param {string} id  @param {{role?: string, disabled?: boolean}} change */
  changeUser = (id, change) => this.call('PATCH', `/api/admin/users/${enc(id)}`, change);
  /** @param {string} id */
  deleteUser = (id) => this.call('DELETE', `/api/admin/users/${enc(id)}`);
  /** @param {string} id */
  disconnect = (id) => this.call('POST', `/api/admin/users/${enc(id)}/disconnect`);
  /** @param {string} id */
  removeFactors = (id) => this.call('DELETE', `/api/admin/users/${enc(id)}/factors`);
  /** @param {string} [after] */
  invitations = (after) => this.call('GET', `/api/admin/invitations${query({ after })}`);
  /** @param {{email?: string, role: string, expires_in: number}} form */
  invite = (form) => this.call('POST', '/api/admin/invitations', form);
  /** @param {string} id */
  revokeInvitation = (id) => this.call('DELETE', `/api/admin/invitations/${enc(id)}`);

  /** @param {{q?: string, after?: string}} which */
  channels = (which) => this.call('GET', `/api/channels${query(which)}`);
  /** @param {string} id */
  deleteChannel = (id) => this.call('DELETE', `/api/channels/${enc(id)}`);

  keys = () => this.call('GET', '/api/admin/api-keys');
  /** @param {{name: string, scopes: string[], expires_at?: number}} form */
  newKey = (form) => this.call('POST', '/api/admin/api-keys', form);
  /** @param {string} id */
  revokeKey = (id) => this.call('DELETE', `/api/admin/api-keys/${enc(id)}`);

  webhooks = () => this.call('GET', '/api/admin/webhooks');
  /** @param {{url: string, events: string[]}} form */
  newWebhook = (form) => this.call('POST', '/api/admin/webhooks', form);
  /** @param {string} id */
  deleteWebhook = (id) => this.call('DELETE', `/api/admin/webhooks/${enc(id)}`);
  /** @param {string} id */
  testWebhook = (id) => this.call('POST', `/api/admin/webhooks/${enc(id)}/test`);
  /** @param {string} id  @param {{after?: string, state?: string}} which */
  deliveries = (id, which) => (
    this.call('GET', `/api/admin/webhooks/${enc(id)}/deliveries${query(which)}`));
  /** @param {string} id  @param {string} delivery */
  redeliver = (id, delivery) => this.call('POST',
    `/api/admin/webhooks/${enc(id)}/deliveries/${enc(delivery)}/replay`);

  providers = () => this.call('GET', '/api/admin/providers');
  /** @param {string} name */
  checkProvider = (name) => this.call('POST', `/api/admin/providers/${enc(name)}/check`);

  /** @param {{after?: string, actor?: string, subject?: string, kind?: string}} which */
  audit = (which) => this.call('GET', `/api/admin/audit${query(which)}`);
}
