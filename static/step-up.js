/** A dialog for acts that ask for a fresh proof of who the user is. */

import { make, setText } from './dom.js';
import { markField, onSubmit, resetForm, showFormError } from './forms.js';

const WRONG = {
  wrong_password: 'This is not your password.',
  wrong_code: 'That code is not right, or was used already.',
};

export class StepUpDialog {
  /** @type {((done: boolean) => void) | null} */ #answer = null;
  #kind = 'password';

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.label = make('label', { for: 'step-up-proof' });
    this.field = make('input', { id: 'step-up-proof', name: 'proof', required: '',
      'aria-describedby': 'step-up-proof-error' });
    const cancel = make('button', { type: 'button', class: 'plain' }, 'Cancel');
    this.form = make('form', { id: 'step-up-form', novalidate: '' },
      make('h2', { id: 'step-up-title' }, 'Confirm that it is you'),
      make('p', { class: 'hint' }, 'This needs a recent proof, with your second step if you have one.'),
      make('div', { class: 'field' }, this.label, this.field,
        make('p', { id: 'step-up-proof-error', class: 'field-error' })),
      make('p', { class: 'form-error', role: 'alert' }),
      make('div', { class: 'actions' }, make('button', { type: 'submit' }, 'Confirm'), cancel));
    this.dialog = make('dialog', { id: 'step-up', 'aria-labelledby': 'step-up-title' }, this.form);
    document.body.append(this.dialog);
    cancel.addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('close', () => this.#done(false)); // also by Escape
    onSubmit(this.form, async ({ proof }) => {
      await api.stepUp({ [this.#kind]: proof });
      this.#done(true);
      this.dialog.close();
    }, (problem) => this.#refused(problem));
  }

  /** Asks for what proves it.
   *  @param {string[]} methods as the refusal names them
   *  @returns {Promise<boolean>} whether it is proven now */
  ask(methods) {
    const byCode = methods.includes('totp') || methods.includes('recovery_code');
    if (this.#answer || !(byCode || methods.includes('password'))) return Promise.resolve(false);
    this.#kind = byCode ? 'code' : 'password';
    resetForm(this.form);
    setText(this.label, byCode ? 'Code of your authenticator app, or a recovery code' : 'Password');
    this.field.type = byCode ? 'text' : 'password';
    this.field.autocomplete = byCode ? 'one-time-code' : 'current-password';
    this.dialog.showModal();
    this.field.focus();
    return new Promise((resolve) => { this.#answer = resolve; });
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
