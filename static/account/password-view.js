/** A new password, or a first one. */

import { byId, setText } from '../dom.js';
import { markField, markWeakPassword, onSubmit, resetForm, showFormError } from '../forms.js';

export class PasswordView {
  /** @param {import('../api.js').Api} api
   *  @param {{ended: () => void, changed: () => void}} on  `changed`: other sessions are over */
  constructor(api, on) {
    this.on = on;
    this.form = byId('password-form');
    onSubmit(this.form, async ({ current_password, new_password }) => {
      await api.changePassword({ current_password, new_password });
      this.#changed(current_password === undefined);
    }, (problem) => this.#refused(problem));
  }

  /** @param {{email: string}} user */
  start({ email }) { this.form.elements.email.value = email; }

  /** @param {any} problem */
  #refused(problem) {
    if (problem.signedOut) return this.on.ended();
    if (problem.code === 'wrong_password') {
      markField(byId('pw-current'), 'This is not your current password.');
      return byId('pw-current').focus();
    }
    if (problem.code === 'weak_password') markWeakPassword(byId('pw-new'), problem);
    else {
      showFormError(this.form, problem.code === 'step_up_needed'
        ? 'Sign out and in again, then set it within a few minutes.' : problem.message);
    }
    byId('pw-new').focus();
  }

  /** @param {boolean} first whether there was none before */
  #changed(first) {
    const { value } = this.form.elements.email;
    resetForm(this.form);
    this.form.elements.email.value = value;
    setText(this.form.querySelector('.form-done'), first
      ? 'Your password is set.' : 'Your password is changed. Your other sessions are signed out.');
    this.on.changed();
  }
}
