/** Calls to Usher's HTTP API. */

import { at } from './here.js';

/** An error as the server describes it (RFC 9457), or code `unreachable`. */
export class Problem extends Error {
  /** @param {number} status  @param {any} [body]  @param {boolean} [signedOut] */
  constructor(status, body = {}, signedOut = false) {
    super(body.detail ?? body.title ?? 'The server could not be reached. Try again shortly.');
    this.status = status;
    this.code = body.code ?? (status ? 'http_error' : 'unreachable');
    this.body = body;
    /** The login session itself is over: there is nothing left to renew. */
    this.signedOut = signedOut;
  }
}

const TIMEOUT_MS = 15_000;
const NEEDS_PROOF = 'step_up_needed';

/** Answers by path. early.js may make it, or may come after this.
 *  @returns {Map<string, Promise<Response|null>>} */
function early() {
  const place = /** @type {any} */ (globalThis);
  place.usherEarly ??= new Map();
  return place.usherEarly;
}

export class Api {
  /** @param {import('./usher.js').UsherClient} client renews the cookies */
  constructor(client) { this.client = client; }

  /** Proves again who the user is, where an act asks for it; the page sets it.
   *  @type {(methods: string[]) => Promise<boolean>} */
  confirm = async () => false;

  /** Who is signed in, or null. Asks for no renewal where there is nothing to renew.
   *  @returns {Promise<any>} */
  whoIsHere = async () => {
    const { renewable } = await this.#once('GET', '/api/auth/signup');
    if (!renewable) return null;
    await this.client.refresh();
    return this.#once('GET', '/api/auth/me');
  };
  /** Gives where the browser signs up with an invitation.
   *  @param {string} provider  @param {object} form */
  signUpWith = (provider, form) => (
    this.#once('POST', `/api/oauth/providers/${encodeURIComponent(provider)}/signup`, form));
  /** @param {{email: string, password: string, name: string, invitation?: string}} form */
  signUp = async (form) => {
    const done = await this.#once('POST', '/api/auth/signup', form);
    return done.user ? done : this.#toMailbox();
  };
  /** @param {{email: string, password: string}} form */
  signIn = async (form) => {
    try {
      return await this.#once('POST', '/api/auth/login', form);
    } catch (problem) {
      return this.#goOn(/** @type {Problem} */ (problem));
    }
  };
  /** @param {{credential: object}} form */
  passkeySignIn = async (form) => {
    try {
      return await this.#once('POST', '/api/auth/passkey/login', form);
    } catch (problem) {
      return this.#goOn(/** @type {Problem} */ (problem));
    }
  };
  /** @param {{challenge: string, code?: string, credential?: object}} form */
  secondFactor = (form) => this.#once('POST', '/api/auth/second-factor', form);
  passkeyOptions = () => this.#once('POST', '/api/auth/passkey/options', {});
  totp = () => this.#call('GET', '/api/auth/totp');
  newTotp = () => this.#call('POST', '/api/auth/totp', {});
  /** @param {{code: string}} form */
  confirmTotp = (form) => this.#call('POST', '/api/auth/totp/confirm', form);
  newRecoveryCodes = () => this.#call('POST', '/api/auth/totp/recovery-codes', {});
  removeTotp = () => this.#call('DELETE', '/api/auth/totp');
  passkeys = () => this.#call('GET', '/api/auth/passkeys');
  newPasskeyOptions = () => this.#call('POST', '/api/auth/passkeys/options', {});
  /** @param {{credential: object, name: string}} form */
  addPasskey = (form) => this.#call('POST', '/api/auth/passkeys', form);
  /** @param {string} id  @param {{name: string}} form */
  renamePasskey = (id, form) => (
    this.#call('PATCH', `/api/auth/passkeys/${encodeURIComponent(id)}`, form));
  /** @param {string} id */
  removePasskey = (id) => this.#call('DELETE', `/api/auth/passkeys/${encodeURIComponent(id)}`);
  /** @param {{current_password: string, new_password: string}} form */
  changePassword = (form) => this.#call('POST', '/api/auth/password', form);
  /** The open socket enters the rooms that need it.
   *  @param {{password?: string, code?: string, credential?: object}} proof */
  stepUp = async (proof) => {
    await this.#fresh('POST', '/api/auth/step-up', proof);
    await this.client.raise();
  };
  /** @param {{token: string, new_password: string}} form */
  resetPassword = (form) => this.#once('POST', '/api/auth/password/reset', form);
  /** @param {{email: string}} form */
  forgotPassword = (form) => this.#once('POST', '/api/auth/password/forgot', form);
  /** @param {{email: string}} form */
  changeEmail = (form) => this.#call('POST', '/api/auth/email', form);
  /** @param {{email: string}} form */
  verifyEmail = (form) => this.#once('POST', '/api/auth/email/verify', form);
  /** Gives where a password is set, if the account was somebody else's.
   *  @param {{token: string, password?: string}} form */
  confirmEmail = (form) => this.#once('POST', '/api/auth/email/confirm', form);
  /** @param {{token: string}} form */
  undoEmail = (form) => this.#once('POST', '/api/auth/email/undo', form);
  signOut = () => this.#call('POST', '/api/auth/logout', {});
  /** Gives where the browser ends the provider's own session, if there is such a place. */
  signOutThere = () => this.#call('POST', '/api/oauth/logout', {});
  /** Gives where a native app is answered.  @param {Record<string, string>} query of the page */
  nativeCode = (query) => this.#call('POST', '/api/auth/native-code', query);
  /** @param {{name: string}} form */
  rename = (form) => this.#call('PATCH', '/api/auth/me', form);
  leave = () => this.#call('DELETE', '/api/auth/me');
  /** One's own data, as a file.  @returns {Promise<Blob>} */
  exported = async () => {
    const content = await this.#call('GET', '/api/auth/me/export');
    return new Blob([JSON.stringify(content, null, 2)], { type: 'application/json' });
  };
  me = () => this.#call('GET', '/api/auth/me');
  /** Of this page's own token, which no script reads. */
  claims = () => this.#call('GET', '/api/auth/claims');
  sessions = () => this.#call('GET', '/api/sessions');
  /** Those that ended before their time, with the reason. */
  endedSessions = () => this.#call('GET', '/api/sessions?ended=true');
  /** @param {string} id */
  endSession = (id) => this.#call('DELETE', `/api/sessions/${encodeURIComponent(id)}`);
  endOtherSessions = () => this.#call('DELETE', '/api/sessions');
  providers = () => this.#once('GET', '/api/oauth/providers');
  linked = () => this.#call('GET', '/api/oauth/accounts');
  /** Where only a new sign-in proves it, the view offers one that comes back to the linking.
   *  @param {string} provider  @param {{current_password?: string, next: string}} form */
  link = (provider, form) => this.#call('POST', `/api/oauth/accounts/${provider}/link`, form,
    async (methods) => methods.length > 0 && this.confirm(methods));
  /** @param {string} provider */
  unlink = (provider) => this.#call('DELETE', `/api/oauth/accounts/${provider}`);

  /** Any other call of an area.  @param {string} method  @param {string} path
   *  @param {object} [body]  @returns {Promise<any>} */
  call = (method, path, body) => this.#call(method, path, body);

  /** The second step of a sign-in; the page sets it.
   *  @type {(challenge: string, methods: string[]) => Promise<any>} */
  askSecondFactor = async () => { throw new Problem(0); };

  /** What a refused sign-in leads to.  @param {Problem} problem  @returns {Promise<any>} */
  async #goOn(problem) {
    const { code, body } = problem;
    if (code === 'second_factor_needed') return this.askSecondFactor(body.challenge, body.methods);
    if (code === 'email_unverified') return this.#toMailbox();
    throw problem;
  }

  /** Nobody signs in here before the address is confirmed.  @returns {Promise<any>} never */
  #toMailbox() {
    location.assign(at('/confirm-email'));
    return new Promise(() => {});
  }

  /** As a signed-in user, who proves again who they are where the act asks for it.
   *  @param {string} method  @param {string} path  @param {object} [body]
   *  @param {(methods: string[]) => Promise<boolean>} [confirm] */
  async #call(method, path, body, confirm = (methods) => this.confirm(methods)) {
    try {
      return await this.#fresh(method, path, body);
    } catch (error) {
      const { code, body: said } = /** @type {Problem} */ (error);
      if (code !== NEEDS_PROOF || !await confirm(said.methods ?? [])) throw error;
    }
    return this.#fresh(method, path, body);
  }

  /** An access token that has expired is renewed once.
   *  @param {string} method  @param {string} path  @param {object} [body] */
  async #fresh(method, path, body) {
    try {
      return await this.#once(method, path, body);
    } catch (error) {
      const { status, code } = /** @type {Problem} */ (error);
      if (status !== 401 || code === NEEDS_PROOF) throw error;
    }
    try {
      await this.client.refresh();
    } catch (error) {
      const status = /** @type {any} */ (error).status ?? 0;
      throw new Problem(status, {}, status === 401);
    }
    return this.#once(method, path, body);
  }

  /** What early.js has asked for or the page came with, once.  @param {string} method
   *  @param {string} path  @returns {Promise<Response|null>|undefined} */
  #early(method, path) {
    const asked = method === 'GET' ? early().get(path) : undefined;
    early().delete(path);
    return asked;
  }

  /** The next call of `path` has this answer, which the page came with.
   *  @param {string} path  @param {object} content */
  bring(path, content) {
    early().set(path, Promise.resolve(new Response(JSON.stringify(content))));
  }

  /** Nothing that came early for one user is there for the next. */
  forgetEarly() { early().clear(); }

  /** @param {string} method  @param {string} path  @param {object} [body]
   *  @returns {Promise<any>} */
  async #once(method, path, body) {
    let answer;
    try {
      answer = await this.#early(method, path) ?? await fetch(at(path), {
        method, credentials: 'same-origin', signal: AbortSignal.timeout(TIMEOUT_MS),
        headers: body ? { 'Content-Type': 'application/json' } : {},
        body: body && JSON.stringify(body),
      });
    } catch {
      throw new Problem(0); // fetch rejects only when no answer came
    }
    const content = await answer.json().catch(() => undefined); // 204, or a proxy's page
    if (!answer.ok) throw new Problem(answer.status, content);
    return content;
  }
}
