/** A dialog for acts that ask for a fresh proof of who the user is. */

import { make, setText } from './dom.js';
import { markField, onSubmit, resetForm, showFormError } from './forms.js';
import { home } from './here.js';
import { canUsePasskeys, passkeySignature } from './passkey.js';

const WRONG = {
  wrong_password: 'This is not your password.',
  wrong_code: 'That code is not right, or was used already.',
};

export class StepUpDialog {
  /** @type {((done: boolean) => void) | null} */ #answer = null;
  #kind = 'password';

  /** @param {import('./api.js').Api} api  @param {import('./providers.js').Providers} providers */
  constructor(api, providers) {
    this.api = api;
    this.providers = providers;
    this.label = make('label', { for: 'step-up-proof' });
    this.field = make('input', { id: 'step-up-proof', name: 'proof', required: '',
      'aria-describedby': 'step-up-proof-error' });
    this.entry = make('div', { class: 'field' }, this.label, this.field,
      make('p', { id: 'step-up-proof-error', class: 'field-error' }));
    this.submit = make('button', { type: 'submit' }, 'Confirm');
    this.passkey = make('button', { type: 'button', class: 'plain' }, 'Use a passkey');
    this.again = make('div', { id: 'step-up-again' });
    this.cancel = make('button', { type: 'button', class: 'plain' }, 'Cancel');
    this.form = make('form', { id: 'step-up-form', novalidate: '' },
      make('h2', { id: 'step-up-title' }, 'Confirm that it is you'),
      make('p', { class: 'hint' },
        'This needs a recent proof, with your second step if you have one.'),
      this.entry, this.again,
      make('p', { class: 'form-error', role: 'alert' }),
      make('div', { class: 'actions' }, this.submit, this.passkey, this.cancel));
    this.dialog = make('dialog', { id: 'step-up', 'aria-labelledby': 'step-up-title' }, this.form);
    document.body.append(this.dialog);
    this.cancel.addEventListener('click', () => this.dialog.close());
    this.passkey.addEventListener('click', () => this.#byPasskey());
    this.dialog.addEventListener('close', () => this.#done(false)); // also by Escape
    onSubmit(this.form, ({ proof }) => this.#prove({ [this.#kind]: proof }),
      (problem) => this.#refused(problem));
  }

  /** Asks for what proves it.
   *  @param {string[]} methods as the refusal names them; none: the account has only providers
   *  @returns {Promise<boolean>} whether it is proven now */
  ask(methods) {
    if (this.#answer) return Promise.resolve(false);
    return new Promise((resolve) => {
      this.#answer = resolve;
      this.#show(methods);
    });
  }

  /** @param {string[]} methods */
  async #show(methods) {
    const byCode = methods.includes('totp') || methods.includes('recovery_code');
    const typed = byCode || methods.includes('password');
    const passkey = methods.includes('passkey') && canUsePasskeys();
    const ways = typed ? [] : await this.#waysToSignInAgain();
    if (!typed && !passkey && !ways.length) return this.#done(false);
    this.#kind = byCode ? 'code' : 'password';
    resetForm(this.form);
    setText(this.label, byCode ? 'Code of your authenticator app, or a recovery code' : 'Password');
    this.field.type = byCode ? 'text' : 'password';
    this.field.autocomplete = byCode ? 'one-time-code' : 'current-password';
    this.entry.hidden = this.submit.hidden = !typed;
    this.passkey.hidden = !passkey;
    this.again.hidden = !ways.length;
    this.again.replaceChildren(make('p', {}, `${passkey ? 'Use your passkey, or sign' : 'Sign'} in `
      + 'again. After a new sign-in, repeat what you were about to do.'),
    make('div', { class: 'row ways' }, ...ways));
    this.dialog.showModal();
    (typed ? this.field : passkey ? this.passkey : ways[0]).focus();
  }

  /** A sign-in just made is a proof, too.  @returns {Promise<HTMLAnchorElement[]>} */
  async #waysToSignInAgain() {
    try {
      const [{ items }] = await Promise.all([this.api.linked(), this.providers.ready()]);
      const query = { prompt: 'login', next: home };
      return items.map((/** @type {any} */ { provider, title }) => (
        this.providers.way(provider, `Sign in again with ${title}`, query)))
        .filter((/** @type {HTMLAnchorElement|null} */ way) => way !== null);
    } catch {
      return []; // the act itself says what is wrong
    }
  }

  async #byPasskey() {
    if (this.passkey.getAttribute('aria-disabled') === 'true') return;
    this.passkey.setAttribute('aria-disabled', 'true');
    showFormError(this.form, '');
    try {
      const credential = await passkeySignature(this.api);
      if (credential && this.dialog.open) await this.#prove({ credential });
    } catch (problem) {
      this.#refused(problem);
    } finally {
      this.passkey.removeAttribute('aria-disabled');
    }
  }

  /** @param {{password?: string, code?: string, credential?: object}} proof */
  async #prove(proof) {
    await this.api.stepUp(proof);
    this.#done(true);
    this.dialog.close();
  }

  /** @param {any} problem */
  #refused(problem) {
    if (problem.signedOut) return this.dialog.close();
    const wrong = WRONG[/** @type {keyof WRONG} */ (problem.code)];
    if (!wrong) return showFormError(this.form, problem.message);
    markField(this.field, wrong);
    this.field.focus();
  }

  /** @param {boolean} proven */
  #done(proven) {
    const answer = this.#answer;
    this.#answer = null;
    resetForm(this.form);
    answer?.(proven);
  }
}
