/** The way in for new people: who may sign up here, and with which invitation. */

import { byId, make } from './dom.js';

const NOTES = {
  closed: 'New accounts cannot be created here. Ask whoever runs this server.',
  invite: 'An invitation is needed to create an account here. Open the link of yours.',
  invited: 'You are invited. If the invitation was sent to an e-mail address, use that one here.',
};

export class SignUpDoor {
  #invitation = '';

  /** @param {import('./api.js').Api} api  @param {Record<string, string>} query what it ends at
   *  @param {string} mode who may open an account: `open`, `invite` or `closed` */
  constructor(api, query, mode) {
    this.api = api;
    this.mode = mode;
    this.query = query;
    this.section = byId('sign-up');
    this.note = make('p', { class: 'hint', id: 'sign-up-note' });
    this.section.querySelector('h1').after(this.note);
    this.section.addEventListener('click', (/** @type {MouseEvent} */ event) => this.#click(event));
    window.addEventListener('hashchange', () => this.#take());
    this.#take();
    this.#show();
  }

  /** What goes with a sign-up's form. */
  get extra() { return this.#invitation ? { invitation: this.#invitation } : {}; }

  /** Takes an invitation out of the address bar: what stands there is seen, copied and kept. */
  #take() {
    const given = new URLSearchParams(location.hash.slice(1)).get('invitation');
    if (!given) return;
    this.#invitation = given;
    history.replaceState(null, '', `${location.pathname}${location.search}#sign-up`);
    this.#show();
  }

  #show() {
    const { mode } = this;
    const invited = this.#invitation !== '' && mode !== 'closed';
    const open = mode !== 'closed' && (mode !== 'invite' || invited);
    this.note.hidden = open && !invited;
    this.note.textContent = NOTES[invited ? 'invited' : mode === 'closed' ? 'closed' : 'invite'];
    for (const part of this.section.querySelectorAll('form, .or, .providers')) part.hidden = !open;
    for (const way of document.querySelectorAll('a[href="#sign-up"]')) {
      /** @type {HTMLElement} */ (way.closest('.aside') ?? way).hidden = !open;
    }
  }

  /** With an invitation a provider's button sends it along, in a request and not in an address.
   *  @param {MouseEvent} event */
  async #click(event) {
    const way = /** @type {HTMLElement} */ (event.target).closest?.('.providers a');
    if (!way || !this.#invitation) return;
    event.preventDefault();
    const error = this.section.querySelector('.form-error');
    const name = new URL(/** @type {HTMLAnchorElement} */ (way).href).pathname.split('/').at(-2) ?? '';
    error.textContent = '';
    try {
      const answer = await this.api.signUpWith(name, { ...this.query, ...this.extra });
      location.assign(answer.location);
    } catch (problem) {
      error.textContent = /** @type {any} */ (problem).message;
    }
  }
}
