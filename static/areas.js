/** The areas of the page: which there are, when each is loaded, and which one is shown.
 *
 * The address says which: `#/rooms/channel:ID` is the area `rooms`, opened at `channel:ID`. An
 * area is a module in a folder of its own, with a style sheet of the same name beside it. Both are
 * loaded when the area is first opened. The module exports
 *
 *     mount(element, app)   fills the element; gives {open?, unmount?}
 *
 * `open(path, query)` is called after that, and whenever the address changes within the area.
 * `unmount()` is called at a sign-out: nothing of one user stays for the next. In between an area
 * is only hidden, so what it shows goes on living.
 *
 * @typedef {import('./app.js').App} App
 * @typedef {{open?: (path: string[], query: URLSearchParams) => void|Promise<void>,
 *   unmount?: () => void}} Mounted
 * @typedef {{mount: (element: HTMLElement, app: App) => Mounted|void}} AreaModule
 * @typedef {{name: string, title: string, load: () => Promise<AreaModule>, admin?: boolean}} Area
 */

import { byId, make } from './dom.js';
import { emptyState } from './ui.js';
import { update } from './update.js';

/** @type {Area[]} the first one is shown where the address names none */
export const AREAS = [
  { name: 'account', title: 'Account', load: () => import('./account/account.js') },
  { name: 'rooms', title: 'Rooms', load: () => import('./rooms/rooms.js') },
  { name: 'console', title: 'Console', load: () => import('./console/console.js') },
  { name: 'admin', title: 'Administration', admin: true, load: () => import('./admin/admin.js') },
];

/** @param {string} hash  @returns {{name: string, path: string[], query: URLSearchParams}} */
export function parseAddress(hash) {
  const [whole, search = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const parts = hash.startsWith('#/') ? whole.split('/').filter(Boolean) : [];
  const [name = '', ...path] = parts.map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part; // a stray % in an address that somebody typed
    }
  });
  return { name, path, query: new URLSearchParams(search) };
}

export class Areas {
  /** @type {Map<string, {element: HTMLElement, mounted: Mounted}>} */ #open = new Map();
  #turn = 0; // counts the addresses, so that an overtaken one notices
  #shown = '';

  /** @param {App} app  @param {HTMLElement} place  @param {HTMLElement} links */
  constructor(app, place, links) {
    this.app = app;
    this.place = place;
    this.links = links;
  }

  /** Shows the links that this user has. */
  start() {
    update(this.links, this.#mine().map(({ name, title }) => (
      make('a', { href: `#/${name}`, 'data-area': name }, title))));
    this.links.hidden = false;
  }

  /** Leaves nothing of this user. */
  stop() {
    this.#turn += 1;
    this.#shown = '';
    for (const { element, mounted } of this.#open.values()) {
      mounted.unmount?.();
      element.remove();
    }
    this.#open.clear();
    this.place.replaceChildren();
    this.links.replaceChildren();
    this.links.hidden = true;
  }

  #mine() { return AREAS.filter(({ admin }) => !admin || this.app.user?.role === 'admin'); }

  /** Shows what the address names.  @param {boolean} focus the user has gone there */
  async go(focus) {
    const turn = ++this.#turn;
    const { name, path, query } = parseAddress(location.hash);
    const area = this.#mine().find((one) => one.name === name) ?? this.#mine()[0];
    for (const link of this.links.children) {
      if (link.getAttribute('data-area') === area.name) {
        link.setAttribute('aria-current', 'page');
        link.scrollIntoView({ block: 'nearest', inline: 'nearest' }); // on a narrow screen
      } else link.removeAttribute('aria-current');
    }
    const moved = this.#shown !== area.name;
    this.#shown = area.name;
    try {
      const { element, mounted } = await this.#mounted(area, () => turn === this.#turn);
      if (turn !== this.#turn) return;
      this.#reveal(element);
      if (moved) this.app.title(area.title);
      await mounted.open?.(area.name === name ? path : [], query);
      if (focus && moved && turn === this.#turn) {
        /** @type {HTMLElement|null} */ (element.querySelector('h1'))?.focus();
      }
    } catch (error) {
      if (turn === this.#turn) this.#failed(area, error);
    }
  }

  /** @param {Area} area  @param {() => boolean} current */
  async #mounted(area, current) {
    const before = this.#open.get(area.name);
    if (before) return before;
    const [{ mount }] = await Promise.all([area.load(), styles(area.name)]);
    const other = this.#open.get(area.name); // opened twice while it was being loaded
    if (other || !current()) return other ?? { element: make('div'), mounted: {} };
    const element = make('div', { class: `area area-${area.name}`, 'data-area': area.name });
    this.place.append(element);
    const opened = { element, mounted: mount(element, this.app) ?? {} };
    this.#open.set(area.name, opened);
    return opened;
  }

  /** @param {HTMLElement} shown */
  #reveal(shown) {
    for (const element of this.place.children) {
      /** @type {HTMLElement} */ (element).hidden = element !== shown;
    }
    byId('area-failed')?.remove();
  }

  /** @param {Area} area  @param {any} error */
  #failed(area, error) {
    console.error(error);
    const again = make('button', { type: 'button', class: 'plain' }, 'Try again');
    again.addEventListener('click', () => this.go(true));
    const failed = make('div', { class: 'area', id: 'area-failed' }, emptyState(
      `${area.title} could not be loaded`, 'Check your connection, then try again.', again));
    this.place.append(failed);
    for (const element of this.place.children) {
      /** @type {HTMLElement} */ (element).hidden = element !== failed;
    }
  }
}

/** Loads the style sheet of an area, once.  @param {string} name  @returns {Promise<void>} */
function styles(name) {
  const href = new URL(`./${name}/${name}.css`, import.meta.url).href;
  const known = document.head.querySelector(`link[data-area="${name}"]`);
  if (known) return Promise.resolve();
  const link = make('link', { rel: 'stylesheet', href, 'data-area': name });
  return new Promise((resolve, reject) => {
    link.addEventListener('load', () => resolve());
    link.addEventListener('error', () => {
      link.remove();
      reject(new Error(`${href} could not be loaded`));
    });
    document.head.append(link);
  });
}
