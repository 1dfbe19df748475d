/** "My sessions": where this account is signed in, and the way to end it. */

import { byId, make, setText, timeElement } from '../dom.js';
import { deviceText, providerOf } from '../words.js';

const POLL_MS = 15_000;

export class SessionsView {
  /** @type {any} */ #timer = 0;
  #shown = '';
  /** The provider that this session came of, or ''; '' also while that is not known yet. */
  provider = '';

  /** @param {import('../api.js').Api} api  @param {import('../providers.js').Providers} providers
   *  @param {{signOut: (there: boolean) => void, ended: () => void, shown: () => void}} on
   *    `signOut`: this very session was chosen, or its provider's too (`there`);
   *    `ended`: the server says that it is over; `shown`: `provider` may be another */
  constructor(api, providers, on) {
    this.api = api;
    this.providers = providers;
    this.on = on;
    byId('sign-out-others').addEventListener('click', () => {
      this.#change(() => api.endOtherSessions(), 'All other sessions are signed out.');
    });
    document.addEventListener('visibilitychange', () => {
      if (this.#timer && !document.hidden) this.load();
    });
  }

  start() {
    this.stop();
    this.#timer = setInterval(() => { if (!document.hidden) this.load(); }, POLL_MS);
    this.load();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#shown = this.provider = '';
    byId('sessions').replaceChildren();
    for (const id of ['sessions-error', 'sessions-status']) setText(byId(id), '');
  }

  async load() {
    try {
      const { items } = await this.api.sessions();
      if (this.#timer) this.#show(items);
      setText(byId('sessions-error'), '');
    } catch (problem) {
      this.#fail(problem);
    }
  }

  /** @param {any} problem */
  #fail(problem) {
    if (!this.#timer) return; // signed out in the meantime: nobody to tell
    if (problem.signedOut) this.on.ended();
    else setText(byId('sessions-error'), problem.message);
  }

  /** @param {() => Promise<void>} call  @param {string} done */
  async #change(call, done) {
    try {
      await call();
      await this.load();
      setText(byId('sessions-status'), done);
      byId('sessions-title').focus();
    } catch (problem) {
      if (/** @type {any} */ (problem).status === 404) this.load(); // already gone
      else this.#fail(problem);
    }
  }

  /** @param {any[]} items */
  #show(items) {
    byId('sign-out-others').hidden = !items.some(({ current }) => !current);
    const minute = Math.floor(Date.now() / 60_000); // "2 min ago" has to move on
    const shown = JSON.stringify([minute, items, this.providers.items]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.provider = providerOf(items.find(({ current }) => current)?.method);
    this.on.shown();
    const list = byId('sessions');
    const focused = document.activeElement?.closest?.('#sessions li')?.getAttribute('data-id');
    list.replaceChildren(...[...items]
      .sort((a, b) => Number(b.current) - Number(a.current) || b.last_seen_at - a.last_seen_at)
      .map((item) => this.#row(item)));
    if (!focused) return;
    const row = [...list.children].find((li) => li.dataset.id === focused);
    (row?.querySelector('button') ?? byId('sessions-title')).focus();
  }

  /** @param {any} item  @returns {HTMLLIElement} */
  #row(item) {
    const device = deviceText(item.device);
    const sockets = item.live_sockets === 1 ? '1 open socket' : `${item.live_sockets} open sockets`;
    const which = item.current ? ' of this session' : ` ${device}, ${item.ip}`;
    const button = make('button', { type: 'button', class: 'plain' }, 'Sign out',
      make('span', { class: 'unseen' }, which));
    button.addEventListener('click', () => {
      if (item.current) this.on.signOut(false);
      else this.#change(() => this.api.endSession(item.id), `${device} is signed out.`);
    });
    const provider = providerOf(item.method);
    const by = provider ? this.providers.title(provider) : item.method;
    const app = item.client === 'native' ? 'app · ' : '';
    const about = make('div', {},
      make('strong', { title: item.device ?? '' }, device),
      ...(item.current ? [' ', make('span', { class: 'here' }, 'this one')] : []),
      make('p', {}, `${app}${item.ip} · by ${by} · ${sockets}`),
      make('p', {}, 'Since ', timeElement(item.created_at), ' · last seen ',
        timeElement(item.last_seen_at)));
    return make('li', { 'data-id': item.id }, about, button,
      ...(item.current && provider ? [this.#signOutThere(by)] : []));
  }

  /** @param {string} title of the provider  @returns {HTMLButtonElement} */
  #signOutThere(title) {
    const button = make('button', { type: 'button', class: 'plain' }, `Sign out of ${title} too`);
    button.addEventListener('click', () => this.on.signOut(true));
    return button;
  }
}
