/** "Connect your app": files with this server's addresses and a new key filled in. */

import { make, setText } from '../dom.js';
import { markField } from '../forms.js';
import { home, server } from '../here.js';
import { attempt, button, errorPlace, field, head } from './parts.js';
import { browser, fastapi, nginx, node } from './snippets.js';

const NO_KEY = '<the key of step 2>';
const ORIGIN = /^https?:\/\/[a-z0-9.:[\]-]+$/;
const AUDIENCE = 'notes';

/** @typedef {import('./snippets.js').Addresses & {key: string}} Filled
 *  @type {{name: string, title: string, file: string, about: string,
 *  text: (at: Filled) => string, run: (at: Filled) => string}[]} */
const FILES = [
  { name: 'browser', title: 'Browser', file: 'my-app/page/index.html',
    about: 'Signs users in, holds their socket, and calls your backend with a token for it.',
    text: browser,
    run: ({ page }) => (
      `python3 -m http.server ${portOf(page)} --bind 127.0.0.1 --directory my-app/page`) },
  { name: 'fastapi', title: 'FastAPI', file: 'my-app/notes.py',
    about: 'Knows who calls by asking Usher, and sends events to open tabs.',
    text: fastapi,
    run: ({ key, backendPort }) => "pip install './clients/python[backend]' fastapi uvicorn\n"
      + `KEY='${key}' python -m uvicorn --app-dir my-app notes:app --port ${backendPort}` },
  { name: 'node', title: 'Node', file: 'my-app/notes.mjs',
    about: 'The same in Node 20 or later, without packages.',
    text: node, run: ({ key }) => `KEY='${key}' node my-app/notes.mjs` },
  { name: 'nginx', title: 'nginx', file: '/etc/nginx/conf.d/usher.conf',
    about: 'For an app that knows nothing of Usher: nginx asks for each request, and passes the user on in headers. '
      + 'Set USHER_PUBLIC_URL to where browsers reach nginx, and USHER_TRUSTED_PROXIES to 127.0.0.1.',
    text: nginx, run: () => 'nginx -t && nginx -s reload' },
];

/** @param {string} origin  @returns {string} */
function portOf(origin) {
  const { port, protocol } = new URL(origin);
  return port || (protocol === 'https:' ? '443' : '80');
}

/** A piece of code with a button that copies it.
 *  @param {string} what  @param {import('../app.js').App} app  @returns {{element: HTMLElement,
 *    show: (text: string) => void}} */
function code(what, app) {
  const pre = make('pre', { tabindex: '0', role: 'region', 'aria-label': what });
  const copy = button('Copy', async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      app.toast('Copied');
    } catch {
      app.toast('The browser did not allow copying. Select the text instead.');
    }
  }, 'plain small', what);
  return { element: make('div', { class: 'admin-code' }, pre, copy), show: (text) => setText(pre, text) };
}

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context  @param {string[]} path */
export async function show(place, { app, calls }, path) {
  const { items } = await calls.settings();
  const setting = (/** @type {string} */ name) => (
    items.find((/** @type {any} */ one) => one.name === `USHER_${name}`)?.value ?? '');
  const at = { usher: server, page: `http://${location.hostname}:8001`,
    backend: `http://${location.hostname}:8002`, backendPort: '8002', node: ownAddress(setting), frontPort: '8080',
    home, passed: setting('PUBLIC_URL_PATH') === 'stripped' ? '/' : home, key: NO_KEY };

  const settings = code('Settings', app);
  const state = make('p', { class: 'hint' });
  const keyState = make('p', { class: 'hint', role: 'status' },
    'It may ask Usher who a user is, and send events into rooms. It is filled in below and shown this once.');
  const error = errorPlace();
  const file = code('The file', app);
  const run = code('How to start it', app);
  const about = make('p', {});
  const where = make('p', { class: 'hint' });
  const start = make('p', { class: 'hint' });
  let shown = FILES.find(({ name }) => name === path[0]) ?? FILES[0];

  function draw() {
    const needed = [['ALLOWED_ORIGINS', at.page], ['APP_AUDIENCES', AUDIENCE]];
    const missing = needed.filter(([name, value]) => !setting(name).split(',').map((one) => one.trim()).includes(value));
    settings.show(needed.map(([name, value]) => `USHER_${name}=${value}`).join('\n'));
    setText(state, missing.length ? `Not set yet: ${missing.map(([name]) => `USHER_${name}`).join(' and ')}. Set ${missing.length > 1 ? 'them' : 'it'} and restart Usher.`
      : 'Both are set.');
    setText(about, shown.about);
    where.replaceChildren('Save it as ', make('code', {}, shown.file));
    setText(start, shown.name === 'nginx' ? 'Then, as root:' : 'Then, in a clone of Usher:');
    file.show(shown.text(at));
    run.show(shown.run(at));
    for (const tab of tabs) {
      const is = tab.id === `admin-tab-${shown.name}`;
      tab.setAttribute('aria-selected', String(is));
      tab.tabIndex = is ? 0 : -1;
    }
    panel.setAttribute('aria-labelledby', `admin-tab-${shown.name}`);
  }

  const tabs = FILES.map((one) => {
    const tab = make('button', { type: 'button', class: 'plain', role: 'tab', id: `admin-tab-${one.name}`,
      'aria-controls': 'admin-file' }, one.title);
    tab.addEventListener('click', () => { shown = one; draw(); });
    return tab;
  });
  const list = make('div', { class: 'admin-tabs', role: 'tablist', 'aria-label': 'Files' }, ...tabs);
  list.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[/** @type {KeyboardEvent} */ (event).key];
    if (!step) return;
    event.preventDefault();
    const next = tabs.at((tabs.findIndex(({ tabIndex }) => tabIndex === 0) + step) % tabs.length);
    next.click();
    next.focus();
  });
  const panel = make('div', { role: 'tabpanel', id: 'admin-file', class: 'admin-list' }, about, where, file.element,
    start, run.element);

  place.append(head('Connect your app'), make('p', { class: 'hint' },
    'A notes app that signs users in with this Usher: a page, and a backend in Python or Node. Change it into yours.'),
  make('section', { class: 'part' }, make('h3', {}, '1. Tell Usher where your app is'),
    addresses(at, draw), settings.element, state),
  make('section', { class: 'part' }, make('h3', {}, '2. Make a key for the backend'), keyState, error,
    button('Make a key', () => attempt(app, async () => {
      const { key } = await calls.newKey({ name: AUDIENCE, scopes: ['introspect', 'publish'] });
      at.key = key;
      draw();
      setText(keyState, 'The key is filled in below. It is not shown again once you leave this page.');
    }, error), '')),
  make('section', { class: 'part' }, make('h3', {}, '3. Take the files'), list, panel));
  draw();
}

/** Where a proxy on the same machine reaches this node.  @param {(name: string) => string} setting */
function ownAddress(setting) {
  const [host, port] = [setting('HOST'), setting('PORT')];
  const wild = ['0.0.0.0', '::', '*', ''].includes(host);
  const shown = wild ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  return `${shown}:${port === '0' ? location.port : port}`;
}

/** The fields for the addresses of the app.  @param {any} at  @param {() => void} changed */
function addresses(at, changed) {
  const fields = make('div', { class: 'admin-filter' },
    field('Your page', { name: 'page', type: 'url', value: at.page }),
    field('Your backend', { name: 'backend', type: 'url', value: at.backend }),
    field('Port of nginx', { name: 'frontPort', inputmode: 'numeric', value: at.frontPort }));
  fields.addEventListener('input', ({ target }) => {
    const input = /** @type {HTMLInputElement} */ (target);
    const wrong = input.name === 'frontPort' ? wrongPort(input.value) : wrongAddress(input.value);
    markField(input, ...(wrong ? [wrong] : []));
    if (wrong) return;
    at[input.name] = input.name === 'frontPort' ? input.value : new URL(input.value).origin;
    at.backendPort = portOf(at.backend);
    changed();
  });
  return fields;
}

/** @param {string} text  @returns {string} */
function wrongAddress(text) {
  const right = URL.canParse(text) && ORIGIN.test(new URL(text).origin);
  return right ? '' : 'An address such as http://localhost:8001.';
}

/** @param {string} text  @returns {string} */
const wrongPort = (text) => (/^[1-9][0-9]{0,4}$/.test(text) && Number(text) < 65_536 ? '' : 'A port, 1 to 65535.');
