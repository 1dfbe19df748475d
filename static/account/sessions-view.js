/** Where this account is signed in, as devices, and the way to end it. */

import { byId, inOrder, make, setText, timeElement } from '../dom.js';
import { update } from '../update.js';
import { deviceText, endText, providerOf } from '../words.js';
import { deviceIcon } from './device-icon.js';

const MAX_ENDED = 5;
const MINUTE_MS = 60_000;


export class SessionsView {
  #running = false;
  /** @type {any} */ #timer = 0; // "2 min ago" has to move on
  /** @type {any[]} */ #items = [];
  #shown = '';
  #asked = inOrder();
  /** The provider that this session came of, or ''; '' also while that is not known yet. */
  provider = '';
  /** When that is known, or cannot be. */
  known = Promise.resolve();

  /** @param {import('../api.js').Api} api  @param {import('../providers.js').Providers} providers
   *  @param {{signOut: (there: boolean) => void, ended: () => void, shown: () => void,
   *    ask: (question: any) => Promise<boolean>}} on
   *    `signOut`: this very session was chosen, or its provider's too (`there`);
   *    `ended`: the server says that it is over; `shown`: `provider` may be another */
  constructor(api, providers, on) {
    this.api = api;
    this.providers = providers;
    this.on = on;
    byId('sign-out-others').addEventListener('click', () => this.#signOutOthers());
    document.addEventListener('visibilitychange', () => {
      if (this.#running && !document.hidden) this.load();
    });
  }

  start() {
    this.stop();
    this.#running = true;
    this.#timer = setInterval(() => this.#show(this.#items), MINUTE_MS);
    this.known = this.load();
  }

  stop() {
    this.#running = false;
    clearInterval(this.#timer);
    this.#items = [];
    this.#shown = this.provider = '';
    for (const id of ['sessions', 'ended-list']) byId(id).replaceChildren();
    for (const id of ['sessions-error', 'sessions-status']) setText(byId(id), '');
  }

  async load() {
    const isNewest = this.#asked();
    try {
      const { items } = await this.api.sessions();
      if (!this.#running || !isNewest()) return;
      this.#show(items);
      const ended = await this.api.endedSessions();
      if (!this.#running || !isNewest()) return;
      this.#showEnded(ended.items);
      setText(byId('sessions-error'), '');
    } catch (problem) {
      this.#fail(problem);
    }
  }

  async #signOutOthers() {
    const sure = await this.on.ask({ title: 'Sign out everywhere else?',
      text: 'Every other browser and app of yours is signed out, and its connections end at once.',
      yes: 'Sign out everywhere else', danger: true });
    if (sure) this.#change(() => this.api.endOtherSessions(), 'All other sessions are signed out.');
  }

  /** @param {any} problem */
  #fail(problem) {
    if (!this.#running) return; // signed out in the meantime: nobody to tell
    if (problem.signedOut) this.on.ended();
    else setText(byId('sessions-error'), problem.message);
  }

  /** @param {() => Promise<void>} call  @param {string} done */
  async #change(call, done) {
    try {
      await call();
      await this.load();
      setText(byId('sessions-status'), done);
      byId('devices-title').focus();
    } catch (problem) {
      if (/** @type {any} */ (problem).status === 404) this.load(); // already gone
      else this.#fail(problem);
    }
  }

  /** @param {any[]} items */
  #show(items) {
    this.#items = items;
    byId('sign-out-others').hidden = !items.some(({ current }) => !current);
    const minute = Math.floor(Date.now() / 60_000); // "2 min ago" has to move on
    const shown = JSON.stringify([minute, items, this.providers.items]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.provider = providerOf(items.find(({ current }) => current)?.method);
    this.on.shown();
    update(byId('sessions'), [...items]
      .sort((a, b) => Number(b.current) - Number(a.current) || b.last_seen_at - a.last_seen_at)
      .map((item) => this.#row(item)), byId('devices-title'));
  }

  /** @param {any} item  @returns {HTMLLIElement} */
  #row(item) {
    const device = deviceText(item.device);
    const open = item.live_sockets;
    const sockets = `${open || 'No'} open ${open === 1 ? 'socket' : 'sockets'}`;
    const which = item.current ? ' of this session' : ` ${device}, ${item.ip}`;
    const button = make('button', { type: 'button', class: 'plain', 'data-key': 'sign-out' }, 'Sign out',
      make('span', { class: 'unseen' }, which));
    button.onclick = () => {
      if (item.current) this.on.signOut(false);
      else this.#change(() => this.api.endSession(item.id), `${device} is signed out.`);
    };
    const provider = providerOf(item.method);
    const by = provider ? this.providers.title(provider) : item.method;
    const seen = open || item.current ? [] : [' · last seen ', timeElement(item.last_seen_at)];
    const about = make('div', {},
      make('strong', { title: item.device ?? '' }, device),
      ...(item.current ? [make('span', { class: 'here' }, 'This device')] : []),
      make('p', {}, make('span', { class: `live${open ? '' : ' none'}` }, sockets), ...seen),
      make('p', {}, `${item.ip} · by ${by}${item.client === 'native' ? ' · app' : ''} · since `,
        timeElement(item.created_at)));
    return make('li', { 'data-key': item.id }, deviceIcon(item), about, make('div',
      { class: 'acts' }, button, ...(item.current && provider ? [this.#signOutThere(by)] : [])));
  }

  /** @param {string} title of the provider  @returns {HTMLButtonElement} */
  #signOutThere(title) {
    const button = make('button', { type: 'button', class: 'plain' }, `Sign out of ${title} too`);
    button.onclick = () => this.on.signOut(true);
    return button;
  }

  /** @param {any[]} items  */
  #showEnded(items) {
    byId('ended').hidden = !items.length;
    update(byId('ended-list'), items.slice(0, MAX_ENDED).map((item) => {
      const about = make('div', {}, make('strong', {}, deviceText(item.device)),
        make('p', {}, `${endText(item.reason)} · `, timeElement(item.ended_at)),
        make('p', {}, item.ip));
      return make('li', { 'data-key': item.id }, deviceIcon(item), about);
    }));
  }
}
