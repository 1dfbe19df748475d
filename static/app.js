/** The page: who is signed in decides what is shown. */

import { AccountView } from './account-view.js';
import { Api } from './api.js';
import { byId, setText } from './dom.js';
import { FactorsView } from './factors-view.js';
import { markField, markWeakPassword, onSubmit, resetForm, showFormError,
  wireRevealButtons } from './forms.js';
import { LinkedView } from './linked-view.js';
import { offerPasskey } from './passkey.js';
import { Providers } from './providers.js';
import { SecondFactorDialog } from './second-factor.js';
import { SessionsView } from './sessions-view.js';
import { SignUpDoor } from './sign-up-door.js';
import { SocketView } from './socket-view.js';
import { StepUpDialog } from './step-up.js';
import { UsherClient } from './usher.js';
import { goodbye } from './words.js';

const RESCUE_PAUSE_MS = 30_000;

class App {
  #signedIn = false;
  #userId = '';
  #rescuedAt = -Infinity; // by performance.now(): a clock that is set back must not keep it off
  #leaving = ''; // why the session ends, where it was this page that asked for something

  constructor() {
    this.client = new UsherClient();
    this.api = new Api(this.client);
    this.providers = new Providers(this.api);
    const dialog = new StepUpDialog(this.api, this.providers);
    this.api.confirm = (methods) => dialog.ask(methods);
    this.socketView = new SocketView(this.client);
    this.door = new SignUpDoor(this.api);
    const ended = () => this.#showSignedOut('unauthenticated');
    this.sessionsView = new SessionsView(this.api, this.providers, {
      signOut: (there) => this.#signOut(there),
      ended,
      shown: () => this.linkedView.show(),
    });
    this.linkedView = new LinkedView(this.api, this.providers, {
      leaving: (reason) => { this.#leaving = reason; },
      ended,
      provider: () => this.sessionsView.provider,
    });
    this.accountView = new AccountView(this.api, {
      leaving: (is) => { this.#leaving = is ? 'account_deleted' : ''; },
      left: () => this.#showSignedOut('account_deleted'),
      ended,
      renamed: (name) => setText(byId('account-name'), name),
    });
    this.factorsView = new FactorsView(this.api, byId('password'), ended);
    const second = new SecondFactorDialog(this.api);
    this.api.askSecondFactor = (challenge, methods) => second.ask(challenge, methods);
    this.client.addEventListener('state', (/** @type {any} */ { detail }) => this.#onState(detail));
    window.addEventListener('hashchange', () => { if (!this.#signedIn) this.#showDoor(true); });
    window.addEventListener('pageshow', ({ persisted }) => { if (persisted) this.start(); });
    byId('sign-out').addEventListener('click', () => this.#signOut(false));
    wireRevealButtons();
    this.#wireForms();
  }

  /** Finds out whether the cookies still hold: also when one comes back here from a provider. */
  async start() {
    this.providers.ready();
    const door = this.door.ready();
    try {
      this.#showSignedIn(await this.api.me());
    } catch (problem) {
      await door;
      const { status } = /** @type {any} */ (problem);
      this.#showSignedOut(status === 401 ? null : 'unreachable');
    }
  }

  #wireForms() {
    const [signIn, signUp, password] = ['sign-in-form', 'sign-up-form', 'password-form'].map(byId);
    offerPasskey(this.api, signIn, ({ user }) => this.#enter(user), (problem) => showFormError(
      signIn, problem.status === 401 ? 'That passkey does not work here.' : problem.message));
    onSubmit(signIn, async (form) => this.#enter((await this.api.signIn(form)).user), (problem) => {
      showFormError(signIn, problem.status === 401
        ? 'That e-mail address and password do not go together.' : problem.message);
      byId('in-password').focus();
    });
    onSubmit(signUp, async (form) => {
      this.#enter((await this.api.signUp({ ...form, ...this.door.extra })).user);
    }, (problem) => {
      this.#passwordProblem(signUp, byId('up-password'), problem);
    });
    onSubmit(password, async ({ current_password, new_password }) => {
      await this.api.changePassword({ current_password, new_password });
      this.#passwordChanged(password, current_password === undefined);
    }, (problem) => {
      if (problem.signedOut) return this.#showSignedOut('unauthenticated');
      if (problem.code === 'step_up_needed') {
        return showFormError(password, 'Sign out and in again, then set it within a few minutes.');
      }
      if (problem.code !== 'wrong_password') {
        return this.#passwordProblem(password, byId('pw-new'), problem);
      }
      markField(byId('pw-current'), 'This is not your current password.');
      byId('pw-current').focus();
    });
  }

  /** @param {HTMLFormElement} form  @param {HTMLElement} field  @param {any} problem */
  #passwordProblem(form, field, problem) {
    if (problem.code !== 'weak_password') return showFormError(form, problem.message);
    markWeakPassword(field, problem);
    field.focus();
  }

  /** @param {HTMLFormElement} form  @param {boolean} first whether there was none before */
  #passwordChanged(form, first) {
    const email = form.elements.namedItem('email');
    const { value } = /** @type {HTMLInputElement} */ (email);
    resetForm(form);
    /** @type {HTMLInputElement} */ (email).value = value;
    setText(/** @type {Element} */ (form.querySelector('.form-done')), first
      ? 'Your password is set.' : 'Your password is changed. Your other sessions are signed out.');
    this.sessionsView.load();
    this.linkedView.load();
  }

  /** @param {any} user just signed in */
  #enter(user) {
    this.#showSignedIn(user);
    byId('signed-in-title').focus();
  }

  /** @param {any} user */
  #showSignedIn(user) {
    this.#signedIn = true;
    if (user.id !== this.#userId) this.socketView.clear(); // cookies may be another user's by now
    this.#userId = user.id;
    for (const id of ['loading', 'notice', 'sign-in', 'sign-up']) byId(id).hidden = true;
    for (const id of ['sign-in-form', 'sign-up-form']) resetForm(byId(id));
    for (const id of ['account', 'signed-in']) byId(id).hidden = false;
    setText(byId('account-name'), user.name);
    byId('password-form').elements.email.value = user.email;
    const { hash, pathname } = location;
    history.replaceState(null, '', pathname);
    this.client.connect();
    this.sessionsView.start();
    this.linkedView.start(user.email, hash);
    this.accountView.start(user);
    this.factorsView.start();
  }

  /** @param {string|null} reason a close reason; null: nobody was signed in */
  #showSignedOut(reason) {
    const { title, text } = goodbye(this.#leaving || reason, this.#provider());
    this.#signedIn = false;
    this.client.close();
    this.sessionsView.stop();
    this.linkedView.stop();
    this.accountView.stop();
    this.factorsView.stop();
    this.providers.ready();
    this.socketView.clear();
    resetForm(byId('password-form'));
    setText(byId('account-name'), '');
    for (const id of ['loading', 'account', 'signed-in']) byId(id).hidden = true;
    this.#showDoor(false);
    byId('notice').hidden = !reason;
    if (!reason) return;
    setText(byId('notice-title'), title);
    setText(byId('notice-text'), text);
    byId('notice').focus();
  }

  /** @param {boolean} focus the user asked for the other form */
  #showDoor(focus) {
    const which = location.hash === '#sign-up' ? 'sign-up' : 'sign-in';
    for (const id of ['sign-in', 'sign-up']) byId(id).hidden = id !== which;
    const title = byId(`${which}-title`);
    document.title = `${title.textContent} · Usher`;
    if (!focus) return;
    byId('notice').hidden = true;
    title.focus();
  }

  /** @returns {string} what the provider is called that this session came of, or '' */
  #provider() {
    const { provider } = this.sessionsView;
    return provider && this.providers.title(provider);
  }

  /** @param {boolean} there at the provider too, where that is possible */
  async #signOut(there) {
    this.#signedIn = false; // the close that follows is no news here
    let answer;
    try {
      answer = await (there ? this.api.signOutThere() : this.api.signOut());
    } catch (problem) {
      const { signedOut, status } = /** @type {any} */ (problem);
      if (!signedOut && status !== 401) return this.#signOutFailed();
    }
    this.#showSignedOut('signed_out');
    if (answer?.location) location.assign(answer.location);
  }

  #signOutFailed() {
    this.#signedIn = true;
    setText(byId('notice-title'), 'You are still signed in');
    setText(byId('notice-text'), 'Signing out did not reach the server. Try again in a moment.');
    byId('notice').hidden = false;
    byId('notice').focus();
  }

  /** @param {import('./usher-types.js').UsherState} state */
  #onState(state) {
    if (!this.#signedIn) return;
    if (state.name === 'joined') {
      byId('notice').hidden = true;
      setText(byId('account-name'), state.session.user.name);
      this.sessionsView.load();
    }
    if (state.name !== 'closed' || state.retry !== 'login') return;
    if (state.code === 4401 && performance.now() - this.#rescuedAt > RESCUE_PAUSE_MS) this.#rescue();
    else this.#showSignedOut(state.reason);
  }

  /** A ticket can be too old, after a sleep say, while the sign-in still holds: looks once. */
  async #rescue() {
    this.#rescuedAt = performance.now();
    try {
      this.#showSignedIn(await this.api.me());
    } catch {
      this.#showSignedOut('unauthenticated');
    }
  }
}

new App().start();
