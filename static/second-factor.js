/** The second step of a sign-in, in a dialog over the page that began it. */

import { make } from './dom.js';
import { markField, onSubmit, resetForm, showFormError } from './forms.js';
import { canUsePasskeys, passkeySignature } from './passkey.js';

export class SecondFactorDialog {
  /** @type {{done: (answer: any) => void, fail: (problem: any) => void}|null} */ #waiting = null;
  #challenge = '';

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.api = api;
    this.field = make('input', { id: 'second-factor-code', name: 'code', required: '',
      maxlength: '64', autocomplete: 'one-time-code', autocapitalize: 'none', spellcheck: 'false',
      'aria-describedby': 'second-factor-code-error' });
    this.passkey = make('button', { type: 'button', class: 'plain' }, 'Use a passkey');
    const cancel = make('button', { type: 'button', class: 'plain' }, 'Cancel');
    this.form = make('form', { id: 'second-factor-form', novalidate: '' },
      make('h2', { id: 'second-factor-title' }, 'Second step'),
      make('div', { class: 'field' },
        make('label', { for: 'second-factor-code' },
          'Code of your authenticator app, or a recovery code'),
        this.field, make('p', { id: 'second-factor-code-error', class: 'field-error' })),
      make('p', { class: 'form-error', role: 'alert' }),
      make('div', { class: 'row ways' }, make('button', { type: 'submit' }, 'Sign in'),
        this.passkey, cancel));
    this.dialog = make('dialog', { id: 'second-factor', 'aria-labelledby': 'second-factor-title' },
      this.form);
    document.body.append(this.dialog);
    cancel.addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('close', () => this.#end(null)); // also by Escape
    this.passkey.addEventListener('click', () => this.#byPasskey());
    onSubmit(this.form, ({ code }) => this.#send({ code }), (problem) => this.#refused(problem));
  }

  /** @param {string} challenge  @param {string[]} methods
   *  @returns {Promise<any>} what a sign-in answers; never, where the user gave up */
  ask(challenge, methods) {
    this.#challenge = challenge;
    resetForm(this.form);
    this.passkey.hidden = !(methods.includes('passkey') && canUsePasskeys());
    this.dialog.showModal();
    this.field.focus();
    return new Promise((done, fail) => { this.#waiting = { done, fail }; });
  }

  async #byPasskey() {
    try {
      const credential = await passkeySignature(this.api);
      if (credential) await this.#send({ credential });
    } catch (problem) {
      this.#refused(problem);
    }
  }

  /** @param {object} factor */
  async #send(factor) {
    const answer = await this.api.secondFactor({ challenge: this.#challenge, ...factor });
    const waiting = this.#waiting;
    this.#waiting = null;
    this.dialog.close();
    waiting?.done(answer);
  }

  /** @param {any} problem */
  #refused(problem) {
    if (problem.code === 'wrong_code') {
      markField(this.field, 'That is not right, or was used already.');
      this.field.focus();
    } else if (problem.status === 401) {
      this.#end(problem);
      this.dialog.close();
    } else {
      showFormError(this.form, problem.message);
    }
  }

  /** @param {any} problem null: the user gave up */
  #end(problem) {
    const waiting = this.#waiting;
    this.#waiting = null;
    resetForm(this.form);
    waiting?.fail(Object.assign(new Error(problem
      ? 'That took too long or was wrong too often. Sign in again.'
      : 'The sign-in was not finished.'), { status: 0, code: 'second_factor' }));
  }
}
