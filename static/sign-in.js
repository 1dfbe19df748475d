/** `/sign-in`: signs somebody in and goes on, to a page or to a native app that asked. */

import { Api } from './api.js';
import { byId, setText } from './dom.js';
import { markWeakPassword, onSubmit, resetForm, showFormError, wireRevealButtons } from './forms.js';
import { offerPasskey } from './passkey.js';
import { Providers } from './providers.js';
import { SecondFactorDialog } from './second-factor.js';
import { SignUpDoor } from './sign-up-door.js';
import { UsherClient } from './usher.js';

class SignInPage {
  #busy = false;

  constructor() {
    const { name, next, native } = document.body.dataset;
    this.name = name ?? '';
    this.next = next || '/';
    /** @type {Record<string, string>|null} what a native app asked for */
    this.native = native ? JSON.parse(native) : null;
    this.api = new Api(new UsherClient());
    this.providers = new Providers(this.api, this.native ?? { next: this.next });
    this.door = new SignUpDoor(this.api, this.native ?? { next: this.next });
    window.addEventListener('hashchange', () => this.#showDoor(true));
    window.addEventListener('pageshow', ({ persisted }) => { if (persisted) this.start(); });
    wireRevealButtons();
    this.#wireForms();
    if (!this.native) return;
    byId('confirm-go').addEventListener('click', () => this.#confirm());
    byId('confirm-other').addEventListener('click', () => this.#showDoor(true));
  }

  /** Whoever is signed in already goes on at once, and to a native app after a word. */
  async start() {
    this.providers.ready();
    const door = this.door.ready();
    try {
      const user = await this.api.me();
      if (this.native) this.#ask(user);
      else this.#leave(this.next);
    } catch (problem) {
      await door;
      this.#showDoor(false);
      if (/** @type {any} */ (problem).status === 401) return;
      this.#tell('The server could not be reached', 'Try again in a moment.');
    }
  }

  #wireForms() {
    const [signIn, signUp] = ['sign-in-form', 'sign-up-form'].map(byId);
    const dialog = new SecondFactorDialog(this.api);
    this.api.askSecondFactor = (challenge, methods) => dialog.ask(challenge, methods);
    offerPasskey(this.api, signIn, () => this.#goOn(), (problem) => showFormError(signIn,
      problem.status === 401 ? 'That passkey does not work here.' : problem.message));
    onSubmit(signIn, async (form) => {
      await this.api.signIn(form);
      await this.#goOn();
    }, (problem) => {
      showFormError(signIn, problem.status === 401
        ? 'That e-mail address and password do not go together.' : problem.message);
      byId('in-password').focus();
    });
    onSubmit(signUp, async (form) => {
      await this.api.signUp({ ...form, ...this.door.extra });
      await this.#goOn();
    }, (problem) => {
      const field = byId('up-password');
      if (problem.code === 'weak_password') markWeakPassword(field, problem);
      else showFormError(signUp, problem.message);
      field.focus();
    });
  }

  /** Just signed in here, knowing where it leads. */
  async #goOn() {
    if (this.native) await this.#answer();
    else this.#leave(this.next);
  }

  /** Signed in since before, perhaps sent here by a link: no code without a word.
   *  @param {any} user */
  #ask(user) {
    setText(byId('confirm-name'), user.name);
    setText(byId('confirm-email'), user.email);
    this.#show('confirm');
    byId('confirm-title').focus();
  }

  async #confirm() {
    if (this.#busy) return;
    this.#busy = true;
    setText(byId('confirm-error'), '');
    try {
      await this.#answer();
    } catch (problem) {
      const { status, message } = /** @type {any} */ (problem);
      if (status === 401) this.#showDoor(true); // signed out meanwhile
      else setText(byId('confirm-error'), message);
    } finally {
      this.#busy = false;
    }
  }

  async #answer() {
    const { location } = await this.api.nativeCode(/** @type {any} */ (this.native));
    this.#show('done'); // an app's own scheme opens the app, and this page stays
    byId('done-title').focus();
    this.#leave(location);
  }

  /** @param {string} url */
  #leave(url) {
    for (const id of ['sign-in-form', 'sign-up-form']) resetForm(byId(id));
    location.replace(url); // no way back to a form that is done with
  }

  /** @param {boolean} focus the user asked for it */
  #showDoor(focus) {
    const which = location.hash === '#sign-up' ? 'sign-up' : 'sign-in';
    this.#show(which);
    if (focus) byId(`${which}-title`).focus();
  }

  /** @param {string} which */
  #show(which) {
    for (const id of ['loading', 'notice']) byId(id).hidden = true;
    for (const id of ['sign-in', 'sign-up', 'confirm', 'done']) {
      const section = byId(id);
      if (section) section.hidden = id !== which;
    }
    document.title = `${byId(`${which}-title`).textContent} · ${this.name}`;
  }

  /** @param {string} title  @param {string} text */
  #tell(title, text) {
    setText(byId('notice-title'), title);
    setText(byId('notice-text'), text);
    byId('notice').hidden = false;
    byId('notice').focus();
  }
}

new SignInPage().start();
