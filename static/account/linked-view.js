/** "Linked accounts": accounts at providers that sign this user in. */

import { byId, inOrder, make, setText, timeElement } from '../dom.js';
import { markField, onSubmit, resetForm, showFormError } from '../forms.js';
import { home } from '../here.js';
import { update } from '../update.js';

const CAME_BACK = '#link='; // how the address ends when a linking comes back from a provider

export class LinkedView {
  #running = false;
  /** @type {any[]} */ #items = [];
  #hasPassword = true;
  #known = false; // what is linked: until then nothing is offered
  #shown = '';
  #order = inOrder();
  #chosen = ''; // the provider that is being linked
  #asked = ''; // the one that was, before the page was left for it

  /** @param {import('../api.js').Api} api  @param {import('../providers.js').Providers} providers
   *  @param {{leaving: (reason: string) => void, ended: () => void, provider: () => string,
   *    known: () => Promise<void>}} on
   *    `leaving`: why this session ends, should it end now, or ''; `ended`: it is over;
   *    `provider`: the one that it came of, or ''; `known`: that has been found out */
  constructor(api, providers, on) {
    this.api = api;
    this.providers = providers;
    this.on = on;
    document.addEventListener('visibilitychange', () => {
      if (this.#running && !document.hidden) this.load();
    });
    byId('link-cancel').addEventListener('click', () => this.#cancel());
    onSubmit(byId('link-form'), ({ current_password }) => this.#go(current_password),
      (problem) => this.#refused(problem));
  }

  /** @param {string} email of the user  @param {string} hash that the page was opened with */
  start(email, hash) {
    this.stop();
    this.#running = true;
    this.#asked = hash.startsWith(CAME_BACK) ? hash.slice(CAME_BACK.length) : '';
    byId('link-form').elements.email.value = email;
    this.load();
  }

  stop() {
    this.#running = false;
    this.#items = [];
    this.#hasPassword = true;
    this.#known = false;
    this.#shown = '';
    this.#close();
    for (const id of ['linked', 'password']) byId(id).hidden = true;
    for (const id of ['linked-error', 'linked-status']) setText(byId(id), '');
    for (const id of ['linked-list', 'link-choices']) byId(id).replaceChildren();
  }

  async load() {
    const isNewest = this.#order();
    try {
      const [answer] = await Promise.all([this.api.linked(), this.providers.ready(),
        this.on.known()]); // or a row would grow, and move the buttons below it
      if (!this.#running || !isNewest()) return;
      this.#items = answer.items;
      this.#hasPassword = answer.has_password;
      this.#known = true;
      this.show();
      this.#cameBack();
    } catch (problem) {
      this.#fail(problem);
    }
    this.#showPassword();
  }

  /** Who came by a provider may set a first password, and has none to give. */
  #showPassword() {
    const known = this.#hasPassword;
    byId('password').hidden = !this.#running;
    byId('pw-current-field').hidden = byId('pw-current').disabled = !known;
    for (const id of ['password-title', 'pw-submit']) {
      setText(byId(id), known ? 'Change password' : 'Set a password');
    }
    setText(byId('pw-new-hint'), known ? 'At least 8 characters. A few unrelated words do well.'
      : 'Another way into your account. For this you have to have signed in just now.');
  }

  /** Shows what is known; also to be called when the session's provider has become known. */
  show() {
    if (!this.#running || !this.#known) return;
    const unlinked = this.providers.items.filter(({ name }) => (
      !this.#items.some(({ provider }) => provider === name)));
    byId('linked').hidden = !this.#items.length && !unlinked.length;
    const minute = Math.floor(Date.now() / 60_000);
    const shown = JSON.stringify(
      [minute, this.#items, unlinked, this.#hasPassword, this.on.provider()]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const title = byId('linked-title');
    update(byId('linked-list'), this.#items.map((item) => this.#row(item)), title);
    update(byId('link-choices'), unlinked.map((item) => this.#choice(item)), title);
    byId('link-choices').hidden = !byId('link-form').hidden || !unlinked.length;
  }

  /** @param {any} item  @returns {HTMLLIElement} */
  #row({ provider, title, email, linked_at, last_used_at }) {
    const button = make('button', { type: 'button', class: 'plain' }, 'Unlink',
      make('span', { class: 'unseen' }, ` ${title}`));
    button.onclick = () => this.#unlink(provider, title);
    const here = this.on.provider() === provider;
    const hint = this.#onlyWay(provider) ? 'It is your only way in, so it stays until there is another.'
      : here ? 'You came in by it: unlinking it signs you out.' : '';
    return make('li', { 'data-key': provider }, make('div', {},
      make('strong', {}, title),
      make('p', {}, email),
      make('p', {}, 'Linked ', timeElement(linked_at), ' · last used ', timeElement(last_used_at)),
      ...(hint ? [make('p', {}, hint)] : [])), button);
  }

  /** Whether the server would refuse to unlink it (`last_way_in`).
   *  @param {string} provider  @returns {boolean} */
  #onlyWay(provider) {
    const open = this.providers.items.map(({ name }) => name);
    const others = this.#items.filter((item) => item.provider !== provider);
    return !this.#hasPassword && !others.some((item) => open.includes(item.provider));
  }

  /** @param {import('../providers.js').Provider} provider  @returns {HTMLButtonElement} */
  #choice({ name, title }) {
    const button = make('button', { type: 'button', class: 'plain', 'data-provider': name },
      `Link ${title}`);
    button.onclick = (/** @type {any} */ { currentTarget }) => this.#choose(name, currentTarget);
    return button;
  }

  /** @param {string} name  @param {HTMLElement} button */
  async #choose(name, button) {
    if (button.getAttribute('aria-disabled') === 'true') return;
    this.#say('linked-error', '');
    this.#chosen = name;
    if (this.#hasPassword) return this.#askPassword();
    button.setAttribute('aria-disabled', 'true');
    try {
      await this.#go();
    } catch (problem) {
      this.#refused(problem);
    } finally {
      button.removeAttribute('aria-disabled');
    }
  }

  #askPassword() {
    byId('link-choices').hidden = true;
    byId('link-form').hidden = false;
    setText(byId('link-submit'), `Link ${this.providers.title(this.#chosen)}`);
    byId('link-password').focus();
  }

  /** Leaves for the provider.  @param {string} [current_password] */
  async #go(current_password) {
    const name = this.#chosen;
    const next = `${home}${CAME_BACK}${name}`;
    const { location: there } = await this.api.link(name, { current_password, next });
    this.#say('linked-status', `Going to ${this.providers.title(name)}…`);
    location.assign(there);
  }

  /** @param {any} problem why a linking does not begin */
  #refused(problem) {
    if (problem.signedOut) return this.#fail(problem);
    if (problem.code === 'wrong_password') {
      markField(byId('link-password'), 'This is not your current password.');
      return byId('link-password').focus();
    }
    if (problem.code === 'step_up_needed') return this.#askSignIn(problem);
    const text = problem.code === 'provider_unavailable'
      ? `${this.providers.title(this.#chosen)} is not responding. Try again in a moment.`
      : problem.message;
    if (this.#hasPassword) showFormError(byId('link-form'), text);
    else this.#say('linked-error', text);
  }

  /** Without a password, a sign-in of just now shows who it is.  @param {any} problem */
  #askSignIn(problem) {
    const next = `${home}${CAME_BACK}${this.#chosen}`;
    const ways = this.#items.map(({ provider, title }) => (
      this.providers.way(provider, `Sign in again with ${title}`, { prompt: 'login', next })));
    const there = ways.filter((way) => way !== null);
    if (!there.length) return this.#say('linked-error', problem.message);
    setText(byId('link-again-text'), 'A linked account is a way into this one, so it has to be '
      + `you who adds it. Sign in again, then link ${this.providers.title(this.#chosen)}.`);
    byId('link-again-ways').replaceChildren(...there);
    byId('link-again').hidden = false;
    byId('link-again-text').focus();
  }

  #cancel() {
    const name = this.#chosen;
    this.#close();
    const find = (/** @type {any} */ { dataset }) => dataset.provider === name;
    ([...byId('link-choices').children].find(find) ?? byId('linked-title')).focus();
  }

  #close() {
    this.#chosen = '';
    resetForm(byId('link-form'));
    for (const id of ['link-form', 'link-again']) byId(id).hidden = true;
    byId('link-choices').hidden = !byId('link-choices').children.length;
  }

  /** Says what has become of a linking that the page was left for. */
  #cameBack() {
    const known = [...this.#items.map(({ provider }) => provider),
      ...this.providers.items.map(({ name }) => name)];
    const name = known.includes(this.#asked) ? this.#asked : '';
    this.#asked = '';
    if (!name) return;
    const linked = this.#items.some(({ provider }) => provider === name);
    const title = this.providers.title(name);
    this.#say('linked-status', linked ? `${title} is linked.` : `You can link ${title} now.`);
    byId('linked-title').focus();
  }

  /** @param {string} provider  @param {string} title */
  async #unlink(provider, title) {
    this.#close();
    this.#say('linked-error', '');
    if (this.on.provider() === provider) this.on.leaving('unlinked');
    try {
      await this.api.unlink(provider);
      await this.load(); // finds out, too, if this session has ended by it
      if (!this.#running) return;
      this.#say('linked-status', `${title} is unlinked.`);
      byId('linked-title').focus();
    } catch (problem) {
      if (/** @type {any} */ (problem).status === 404) this.load(); // already gone
      else this.#fail(problem);
    } finally {
      this.on.leaving('');
    }
  }

  /** @param {string} id  @param {string} text */
  #say(id, text) {
    setText(byId('linked-status'), '');
    setText(byId(id), text);
  }

  /** @param {any} problem */
  #fail(problem) {
    if (!this.#running) return;
    if (problem.signedOut) return this.on.ended();
    this.#say('linked-error', problem.message);
    byId('linked').hidden = !this.#items.length && !this.providers.items.length;
  }
}
