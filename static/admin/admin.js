/** Administration: what runs here, and who may do what. Each page of it is loaded when opened.
 *
 * A page exports `show(place, context, path, query)`: it fills `place`. `context.signal` is aborted
 * when another page is shown.
 *
 * @typedef {{app: import('../app.js').App, calls: import('./calls.js').Calls, signal: AbortSignal}}
 *   Context
 */

import { make, setText } from '../dom.js';
import { Calls } from './calls.js';
import { failed } from './parts.js';

/** @type {{name: string, title: string, load: () => Promise<any>}[]} the first one is shown where
 *  the address names none */
const PAGES = [
  { name: 'overview', title: 'Overview', load: () => import('./overview.js') },
  { name: 'users', title: 'Users', load: () => import('./users.js') },
  { name: 'channels', title: 'Rooms', load: () => import('./channels.js') },
  { name: 'keys', title: 'Keys', load: () => import('./keys.js') },
  { name: 'webhooks', title: 'Webhooks', load: () => import('./webhooks.js') },
  { name: 'providers', title: 'Providers', load: () => import('./providers.js') },
  { name: 'audit', title: 'Audit', load: () => import('./audit.js') },
  { name: 'settings', title: 'Settings', load: () => import('./settings.js') },
  { name: 'connect', title: 'Connect your app', load: () => import('./connect.js') },
];

/** @param {HTMLElement} element  @param {import('../app.js').App} app */
export function mount(element, app) {
  const links = PAGES.map(({ name, title }) => make('a', { href: `#/admin/${name}` }, title));
  const current = make('summary', {});
  const menu = make('details', {}, current, ...links);
  const place = make('div', { class: 'admin-page' });
  element.append(make('h1', { tabindex: '-1' }, 'Administration'),
    make('div', { class: 'admin-columns' },
      make('nav', { class: 'admin-pages', 'aria-label': 'Administration' }, menu), place));
  const wide = matchMedia('(min-width: 52.01rem)'); // beside the page; else a menu above it
  const fold = () => { menu.open = wide.matches; };
  const life = new AbortController();
  wide.addEventListener('change', fold, { signal: life.signal });
  const calls = new Calls(app.api);
  let shown = new AbortController();
  let before = '';

  /** @param {string[]} path  @param {URLSearchParams} query */
  async function open(path, query) {
    const address = location.hash;
    if (address === before && !shown.signal.aborted) return; // back from another area
    shown.abort();
    shown = new AbortController();
    const { signal } = shown;
    const page = PAGES.find(({ name }) => name === path[0]) ?? PAGES[0];
    for (const link of links) {
      if (link.hash === `#/admin/${page.name}`) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    setText(current, page.title);
    fold();
    app.title(`${page.title} · Administration`);
    const inside = before !== '';
    before = address;
    const next = make('div', {});
    try {
      const { show } = await page.load();
      if (signal.aborted) return;
      place.replaceChildren(next);
      await show(next, { app, calls, signal }, path.slice(1), query);
      if (inside && !signal.aborted) next.querySelector('h2')?.focus();
    } catch (problem) {
      if (signal.aborted) return;
      before = '';
      if (!next.isConnected) place.replaceChildren(next);
      failed(next, app, problem, () => { before = ''; open(path, query); });
    }
  }

  return { open, unmount: () => { shown.abort(); life.abort(); } };
}
