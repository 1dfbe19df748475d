/** "My account": another e-mail address. */

import { byId, setText } from '../dom.js';
import { onSubmit, resetForm, showFormError } from '../forms.js';

export class EmailView {
  /** @param {import('../api.js').Api} api  @param {() => void} ended the session is over */
  constructor(api, ended) {
    this.form = byId('email-form');
    onSubmit(this.form, async ({ email }) => {
      await api.changeEmail({ email });
      this.form.reset();
      setText(this.form.querySelector('.form-done'),
        'Look into the mailbox of the new address: a link there confirms it.');
    }, (problem) => {
      if (problem.signedOut) return ended();
      showFormError(this.form, problem.message);
      this.form.elements.email.focus();
    });
  }

  /** @param {string} email the address of who is signed in */
  start(email) {
    resetForm(this.form);
    setText(byId('my-email-hint'), `Now ${email}. It changes when the new one is confirmed.`);
  }

  stop() {
    resetForm(this.form);
    setText(byId('my-email-hint'), '');
  }
}
