/** The name, one's own data, and leaving. */

import { byId, make, setText } from '../dom.js';
import { EmailView } from './email-view.js';
import { onSubmit, resetForm, showFormError } from '../forms.js';

export class ProfileView {
  /** @param {import('../api.js').Api} api
   *  @param {{leaving: (is: boolean) => void, left: () => void, ended: () => void,
   *    renamed: (name: string) => void}} on
   *    `leaving`: what ends this session from now on is no news; `left`: the account is deleted;
   *    `ended`: the session is over */
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.email = new EmailView(api, on.ended);
    this.form = byId('name-form');
    onSubmit(this.form, async ({ name }) => {
      const user = await api.rename({ name });
      this.#name(user.name);
      setText(this.form.querySelector('.form-done'), 'Your name is changed.');
      on.renamed(user.name);
    }, (problem) => {
      if (problem.signedOut) return on.ended();
      showFormError(this.form, problem.message);
      this.form.elements.name.focus();
    });
    byId('export').addEventListener('click', () => this.#act(() => this.#download()));
    byId('leave').addEventListener('click', () => this.#ask(true));
    byId('leave-cancel').addEventListener('click', () => this.#ask(false));
    byId('leave-confirm').addEventListener('click', () => this.#act(() => this.#leave()));
  }

  /** @param {{name: string, email: string}} user who is signed in */
  start(user) {
    this.email.start(user.email);
    resetForm(this.form);
    this.#name(user.name);
    this.#show(false);
    setText(byId('account-error'), '');
  }

  stop() {
    this.email.stop();
    resetForm(this.form);
    this.#name('');
    this.#show(false);
  }

  /** @param {string} name */
  #name(name) { this.form.elements.name.value = name; }

  /** @param {boolean} asks */
  #show(asks) {
    byId('leave-ask').hidden = !asks;
    byId('leave').hidden = asks;
  }

  /** @param {boolean} asks  */
  #ask(asks) {
    this.#show(asks);
    setText(byId('account-error'), '');
    byId(asks ? 'leave-text' : 'leave').focus();
  }

  /** One at a time, as long as it takes.  @param {() => Promise<void>} act */
  async #act(act) {
    if (this.busy) return;
    this.busy = true;
    setText(byId('account-error'), '');
    try {
      await act();
    } catch (problem) {
      const { signedOut, code, message } = /** @type {any} */ (problem);
      if (signedOut) return this.on.ended();
      setText(byId('account-error'), {
        last_admin: 'You are the only administrator. Make somebody else one first.',
        step_up_needed: 'Sign out and in again, then delete your account within a few minutes.',
      }[code] ?? message);
    } finally {
      this.busy = false;
    }
  }

  async #download() {
    const file = URL.createObjectURL(await this.api.exported());
    make('a', { href: file, download: 'account.json' }).click();
    setTimeout(() => URL.revokeObjectURL(file), 60_000);
  }

  async #leave() {
    this.on.leaving(true);
    try {
      await this.api.leave();
    } catch (problem) {
      this.on.leaving(false);
      throw problem;
    }
    this.on.left();
  }
}
