/** `/sign-in`: signs somebody in and goes on, to a page or to a native app that asked. */

import { Api } from './api.js';
import { byId, setText } from './dom.js';
import { Door, start } from './door.js';
import { wireRevealButtons } from './forms.js';
import { home } from './here.js';
import { Providers } from './providers.js';
import { UsherClient } from './usher.js';

class SignInPage {
  #busy = false;

  constructor() {
    const { name, next, native } = document.body.dataset;
    this.name = name ?? '';
    this.next = next || home;
    /** @type {Record<string, string>|null} what a native app asked for */
    this.native = native ? JSON.parse(native) : null;
    this.api = new Api(new UsherClient({ baseUrl: home }));
    const query = this.native ?? { next: this.next };
    this.providers = new Providers(this.api, query, start.providers);
    this.door = new Door(this.api, query, () => this.#goOn());
    window.addEventListener('hashchange', () => this.#showDoor(true));
    window.addEventListener('pageshow', ({ persisted }) => { if (persisted) this.start(); });
    wireRevealButtons();
    if (!this.native) return;
    byId('confirm-go').addEventListener('click', () => this.#confirm());
    byId('confirm-other').addEventListener('click', () => this.#showDoor(true));
  }

  /** Whoever is signed in already goes on at once, and to a native app after a word. */
  async start() {
    try {
      const user = await this.api.whoIsHere();
      if (!user) this.#showDoor(false);
      else if (this.native) this.#ask(user);
      else this.#leave(this.next);
    } catch (problem) {
      this.#showDoor(false);
      if (/** @type {any} */ (problem).status === 401) return;
      this.door.tell('The server could not be reached', 'Try again in a moment.');
    }
  }

  /** Just signed in here, knowing where it leads. */
  async #goOn() {
    if (this.native) await this.#answer();
    else this.#leave(this.next);
  }

  /** Signed in since before, perhaps sent here by a link: no code without a word.
   *  @param {any} user */
  #ask(user) {
    setText(byId('confirm-name'), user.name);
    setText(byId('confirm-email'), user.email);
    this.#show('confirm');
    byId('confirm-title').focus();
  }

  async #confirm() {
    if (this.#busy) return;
    this.#busy = true;
    setText(byId('confirm-error'), '');
    try {
      await this.#answer();
    } catch (problem) {
      const { status, message } = /** @type {any} */ (problem);
      if (status === 401) this.#showDoor(true); // signed out meanwhile
      else setText(byId('confirm-error'), message);
    } finally {
      this.#busy = false;
    }
  }

  async #answer() {
    const { location } = await this.api.nativeCode(/** @type {any} */ (this.native));
    this.#show('done'); // an app's own scheme opens the app, and this page stays
    byId('done-title').focus();
    this.#leave(location);
  }

  /** @param {string} url */
  #leave(url) {
    this.door.reset();
    location.replace(url); // no way back to a form that is done with
  }

  /** @param {boolean} focus the user asked for it */
  #showDoor(focus) {
    this.#show('');
    this.door.show(focus);
  }

  /** @param {string} which '' for none: the way in is shown by itself  */
  #show(which) {
    for (const id of ['loading', 'notice']) byId(id).hidden = true;
    for (const id of ['sign-in', 'sign-up', 'confirm', 'done']) {
      const section = byId(id);
      if (section) section.hidden = id !== which;
    }
    if (which) document.title = `${byId(`${which}-title`).textContent} · ${this.name}`;
  }
}

new SignInPage().start();
