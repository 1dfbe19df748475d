/** The way in: the forms to sign in and to sign up. */

import { byId, setText } from './dom.js';
import { markWeakPassword, onSubmit, resetForm, showFormError } from './forms.js';
import { offerPasskey } from './passkey.js';
import { SecondFactorDialog } from './second-factor.js';
import { SignUpDoor } from './sign-up-door.js';

const FORMS = ['sign-in-form', 'sign-up-form'];

/** What the page came with: who is signed in, and what the way in needs.
 *  @type {{user: any, signup: string, is_first: boolean,
 *    providers: import('./providers.js').Provider[], sessions: any[]|null}} */
export const start = JSON.parse(document.body.dataset.start ?? '{}');
delete document.body.dataset.start; // nothing of this user stays here for the next

export class Door {
  /** @param {import('./api.js').Api} api  @param {Record<string, string>} query what it ends at
   *  @param {(answer: any) => void|Promise<void>} entered somebody has signed in */
  constructor(api, query, entered) {
    this.name = document.body.dataset.name ?? '';
    this.signUp = new SignUpDoor(api, query, start.signup);
    const second = new SecondFactorDialog(api);
    api.askSecondFactor = (challenge, methods) => second.ask(challenge, methods);
    const [signIn, signUp] = FORMS.map(byId);
    offerPasskey(api, signIn, entered, (problem) => showFormError(signIn,
      problem.status === 401 ? 'That passkey does not work here.' : problem.message));
    onSubmit(signIn, async (form) => entered(await api.signIn(form)), (problem) => {
      showFormError(signIn, problem.status === 401
        ? 'That e-mail address and password do not go together.' : problem.message);
      byId('in-password').focus();
    });
    onSubmit(signUp, async (form) => (
      entered(await api.signUp({ ...form, ...this.signUp.extra }))), (problem) => {
      const field = byId('up-password');
      if (problem.code === 'weak_password') markWeakPassword(field, problem);
      else showFormError(signUp, problem.message);
      field.focus();
    });
  }

  /** Shows the form that the address asks for.  @param {boolean} focus the user asked for it */
  show(focus) {
    const first = document.querySelector('.welcome') && location.hash !== '#sign-in';
    const which = first || location.hash === '#sign-up' ? 'sign-up' : 'sign-in';
    for (const id of ['sign-in', 'sign-up']) byId(id).hidden = id !== which;
    const title = byId(`${which}-title`);
    document.title = `${title.textContent} · ${this.name}`;
    if (focus) title.focus();
  }

  hide() {
    for (const id of ['sign-in', 'sign-up']) byId(id).hidden = true;
    this.reset();
  }

  /** There is somebody now: the next account is one like others. */
  settle() {
    document.querySelector('.welcome')?.remove();
    setText(byId('sign-up-title'), 'Create an account');
  }

  /** Empties the forms, passwords first of all. */
  reset() { for (const id of FORMS) resetForm(byId(id)); }

  /** @param {string} title  @param {string} text */
  tell(title, text) {
    setText(byId('notice-title'), title);
    setText(byId('notice-text'), text);
    byId('notice').hidden = false;
    byId('notice').focus();
  }
}
