/** The pages around mails: `/forgot-password`, `/confirm-email` and `/undo-email`. */

import { Api } from './api.js';
import { byId } from './dom.js';
import { onSubmit, resetForm, showFormError, wireRevealButtons } from './forms.js';
import { home } from './here.js';
import { UsherClient } from './usher.js';

const VIEWS = ['ask', 'sent', 'act', 'done', 'refused'];

class MailPage {
  #token = '';

  constructor() {
    const { name, page } = document.body.dataset;
    this.name = name ?? '';
    this.page = page ?? '';
    this.api = new Api(new UsherClient({ baseUrl: home }));
    window.addEventListener('hashchange', () => this.#take());
    wireRevealButtons();
    if (byId('ask')) this.#wireAsking();
    if (byId('act')) this.#wireLink();
    byId('take-over')?.addEventListener('click', () => this.#takeOver());
    this.#take();
  }

  /** Takes the token out of the address bar: what stands there is seen, copied and kept. */
  async #take() {
    const given = new URLSearchParams(location.hash.slice(1)).get('token');
    if (given) {
      this.#token = given;
      history.replaceState(null, '', location.pathname);
    }
    if (!this.#token) this.#show(byId('ask') ? 'ask' : 'refused');
    else if (this.page === 'confirm-email') await this.#tryAsSignedIn();
    else this.#show('act');
  }

  /** Whoever is signed in to the account need not give its password. */
  async #tryAsSignedIn() {
    let signedIn = true;
    try {
      await this.api.me(); // renews an access token that has expired
    } catch {
      signedIn = false;
    }
    if (!signedIn) {
      this.#show('act');
      return;
    }
    try {
      await this.api.confirmEmail({ token: this.#token, password: '' });
      this.#end('done');
    } catch (problem) {
      const { code } = /** @type {any} */ (problem);
      if (code === 'link_refused') this.#end('refused');
      else this.#show('act');
    }
  }

  #wireAsking() {
    const form = byId('ask-form');
    onSubmit(form, async ({ email }) => {
      if (this.page === 'forgot-password') await this.api.forgotPassword({ email });
      else await this.api.verifyEmail({ email });
      this.#end('sent');
    }, (problem) => showFormError(form, problem.message));
  }

  #wireLink() {
    const form = byId('act-form');
    onSubmit(form, async ({ password }) => {
      if (this.page === 'undo-email') await this.api.undoEmail({ token: this.#token });
      else await this.api.confirmEmail({ token: this.#token, password });
      this.#end('done');
    }, (problem) => this.#fail(problem));
  }

  /** The link alone: the account becomes that of whoever has the mailbox. */
  async #takeOver() {
    try {
      const answer = await this.api.confirmEmail({ token: this.#token });
      if (answer?.set_password_url) location.replace(answer.set_password_url);
      else this.#end('done');
    } catch (problem) {
      this.#fail(problem);
    }
  }

  /** @param {any} problem */
  #fail(problem) {
    if (problem.code === 'link_refused') {
      this.#end('refused');
      return;
    }
    const text = {
      reauthentication_needed: 'A new address takes the password of the account, or a sign-in.',
      wrong_password: 'This is not the password of the account.',
    }[/** @type {string} */ (problem.code)];
    showFormError(byId('act-form'), text ?? problem.message);
  }

  /** The link is good for nothing any more.  @param {string} which */
  #end(which) {
    this.#token = '';
    for (const id of ['ask-form', 'act-form']) if (byId(id)) resetForm(byId(id));
    this.#show(which);
    byId(`${which}-title`).focus();
  }

  /** @param {string} which */
  #show(which) {
    for (const id of VIEWS) {
      const section = byId(id);
      if (section) section.hidden = id !== which;
    }
    document.title = `${byId(`${which}-title`).textContent} · ${this.name}`;
  }
}

new MailPage();
