/** Providers that one can sign in with: what they are called, and the ways to them. */

import { make } from './dom.js';
import { usualTitle } from './words.js';

/** @typedef {{name: string, title: string, login_url: string}} Provider */

export class Providers {
  /** @type {Provider[]} */ items = [];
  /** @type {Promise<void>|null} */ #loading = null;

  /** @param {import('./api.js').Api} api
   *  @param {Record<string, string>} query what a sign-in ends at
   *  @param {Provider[]} [known] those that the page came with */
  constructor(api, query, known) {
    this.api = api;
    this.query = query;
    if (!known) return;
    this.items = known;
    this.#loading = Promise.resolve();
    this.#showAtDoors();
  }

  /** Waits until they are known. Never rejects: without the list there is still the password. */
  ready() {
    this.#loading ??= this.#load();
    return this.#loading;
  }

  async #load() {
    try {
      this.items = (await this.api.providers()).items;
      this.#showAtDoors();
    } catch {
      this.#loading = null; // the next who asks tries again
    }
  }

  /** @param {string} name  @returns {string} */
  title(name) { return this.#find(name)?.title ?? usualTitle(name); }

  /** A link styled as a button: it leaves the page.
   *  @param {string} name  @param {string} text  @param {Record<string, string>} query
   *  @returns {HTMLAnchorElement|null} null: there is no such provider any more */
  way(name, text, query) {
    const provider = this.#find(name);
    const href = provider && `${provider.login_url}?${new URLSearchParams(query)}`;
    return provider ? make('a', { class: 'button plain', href }, text) : null;
  }

  /** @param {string} name */
  #find(name) { return this.items.find((item) => item.name === name); }

  #showAtDoors() {
    for (const list of document.querySelectorAll('.providers')) {
      const ways = this.items.map(({ name, title }) => (
        make('li', {}, this.way(name, `Continue with ${title}`, this.query) ?? '')));
      list.replaceChildren(...ways);
      /** @type {HTMLElement} */ (list.parentElement).hidden = !ways.length;
    }
  }
}
