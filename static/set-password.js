/** `/set-password`: sets the password of an account, by the one-time link that led here. */

import { Api } from './api.js';
import { byId } from './dom.js';
import { markWeakPassword, onSubmit, resetForm, showFormError, wireRevealButtons } from './forms.js';
import { home } from './here.js';
import { UsherClient } from './usher.js';

class SetPasswordPage {
  #token = '';

  constructor() {
    this.name = document.body.dataset.name ?? '';
    this.api = new Api(new UsherClient({ baseUrl: home }));
    window.addEventListener('hashchange', () => this.#take());
    wireRevealButtons();
    this.#wireForm();
    this.#take();
  }

  /** Takes the token out of the address bar: what stands there is seen, copied and kept. */
  #take() {
    const given = new URLSearchParams(location.hash.slice(1)).get('token');
    if (given) {
      this.#token = given;
      history.replaceState(null, '', location.pathname);
      resetForm(byId('choose-form'));
    }
    if (this.#token) this.#show('choose');
    else if (byId('done').hidden) this.#show('refused');
  }

  #wireForm() {
    const form = byId('choose-form');
    onSubmit(form, async ({ new_password }) => {
      await this.api.resetPassword({ token: this.#token, new_password });
      this.#end('done');
    }, (problem) => {
      const field = byId('new-password');
      if (problem.code === 'link_refused') {
        this.#end('refused');
        return;
      }
      if (problem.code === 'weak_password') markWeakPassword(field, problem);
      else showFormError(form, problem.message);
      field.focus();
    });
  }

  /** The link is good for nothing any more.  @param {string} which */
  #end(which) {
    this.#token = '';
    resetForm(byId('choose-form'));
    this.#show(which);
    byId(`${which}-title`).focus();
  }

  /** @param {string} which */
  #show(which) {
    for (const id of ['choose', 'refused', 'done']) byId(id).hidden = id !== which;
    document.title = `${byId(`${which}-title`).textContent} · ${this.name}`;
  }
}

new SetPasswordPage();
