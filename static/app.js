/** The page: who is signed in decides what is shown. `App` is also what the areas are handed. */

import { Api } from './api.js';
import { Areas, parseAddress } from './areas.js';
import { ConnectionView } from './connection.js';
import { byId, setText } from './dom.js';
import { Door, start } from './door.js';
import { wireRevealButtons } from './forms.js';
import { home, keptAs } from './here.js';
import { Providers } from './providers.js';
import { StepUpDialog } from './step-up.js';
import { ask, toast } from './ui.js';
import { UsherClient } from './usher.js';
import { goodbye } from './words.js';

/** @typedef {import('./usher-types.js').UsherFrame & {at: Date}} PassedFrame */

const RESCUE_PAUSE_MS = 30_000;
const MAX_FRAMES = 200;
const HINT = keptAs('usher.signed-in');

export class App {
  #signedIn = false;
  #rescuedAt = -Infinity; // by performance.now(): a clock that is set back must not keep it off
  #leaving = ''; // why the session ends, where it was this page that asked for something
  #wanted = ''; // the address that was asked for, while somebody signs in

  /** Who is signed in: `{id, email, name, role}`.  @type {any} */ user = null;
  /** The provider that this session came of, or ''; '' also while that is not known. */ provider = '';
  /** Whether the user has just made the first account of all. */ isFirst = false;
  /** How the address ended when the page was opened. */ arrivedWith = '';
  /** The last frames both ways, oldest first, secrets masked.  @type {PassedFrame[]} */ frames = [];

  constructor() {
    this.name = document.body.dataset.name ?? '';
    this.client = new UsherClient({ baseUrl: home });
    this.api = new Api(this.client);
    this.providers = new Providers(this.api, { next: home }, start.providers);
    const dialog = new StepUpDialog(this.api, this.providers);
    this.api.confirm = (methods) => dialog.ask(methods);
    this.door = new Door(this.api, { next: home }, ({ user }) => {
      this.isFirst = start.is_first && user.role === 'admin';
      this.#showSignedIn(user, true);
    });
    this.areas = new Areas(this, byId('signed-in'), byId('areas'));
    new ConnectionView(this.client);
    this.client.addEventListener('state', (/** @type {any} */ { detail }) => this.#onState(detail));
    this.client.addEventListener('frame', (/** @type {any} */ { detail }) => this.#keep(detail));
    window.addEventListener('hashchange', () => this.#moved());
    window.addEventListener('pageshow', ({ persisted }) => { if (persisted) this.start(); });
    byId('sign-out').addEventListener('click', () => this.signOut(false));
    wireRevealButtons();
  }

  /** @param {any} [user] who is signed in, where the page came with it */
  async start(user) {
    if (user) {
      this.#showSignedIn(user);
      return;
    }
    if (!wasSignedIn()) this.#showSignedOut(null); // the form at once; it goes if there is somebody
    try {
      const here = await this.api.whoIsHere();
      if (here) this.#showSignedIn(here);
      else if (byId('sign-in').hidden && byId('sign-up').hidden) this.#showSignedOut(null);
    } catch (problem) {
      const { status } = /** @type {any} */ (problem);
      this.#showSignedOut(status === 401 ? null : 'unreachable');
    }
  }

  // ---- for the areas -------------------------------------------------------------------------

  /** What the tab of the browser is called.  @param {string} text */
  title(text) { document.title = `${text} · ${this.name}`; }

  /** Goes to an address of an area, `rooms/channel:ID` say.  @param {string} address */
  go(address) { location.hash = `#/${address}`; }

  /** Read out to those who do not see it.  @param {string} text */
  announce(text) { setText(byId('announce'), text); }

  toast = toast;
  ask = ask;

  /** A call was answered that the session is over (`problem.signedOut`). During a sign-out that is
   *  no news, and its answer says more. */
  ended() { if (this.#signedIn) this.#showSignedOut('unauthenticated'); }

  /** Why this session ends, should it end now: what comes of one's own act is no news.
   *  @param {string} reason for `goodbye`, or '' */
  leaving(reason) { this.#leaving = reason; }

  /** The session is over by this page's own act.  @param {string} reason for `goodbye` */
  left(reason) { this.#showSignedOut(reason); }

  /** @param {string} name */
  renamed(name) {
    this.user = { ...this.user, name };
    setText(byId('account-name'), name);
  }

  /** @param {boolean} there at the provider too, where that is possible */
  async signOut(there) {
    this.#signedIn = false; // the close that follows is no news here
    let answer;
    try {
      answer = await (there ? this.api.signOutThere() : this.api.signOut());
    } catch (problem) {
      const { signedOut, status } = /** @type {any} */ (problem);
      if (!signedOut && status !== 401) return this.#signOutFailed();
    }
    this.#showSignedOut('signed_out');
    if (answer?.location) location.assign(answer.location);
  }

  // --------------------------------------------------------------------------------------------

  /** @param {any} user  @param {boolean} [entered] the user has just signed in here */
  #showSignedIn(user, entered = false) {
    const another = user.id !== this.user?.id; // cookies may be another user's by now
    if (another || !this.#signedIn) this.areas.stop();
    if (another) this.frames = [];
    this.#signedIn = true;
    keepHint(true);
    this.user = user;
    this.door.hide();
    this.door.settle();
    for (const id of ['loading', 'notice']) byId(id).hidden = true;
    for (const id of ['account', 'signed-in']) byId(id).hidden = false;
    setText(byId('account-name'), user.name);
    this.#takeAddress();
    this.client.connect();
    this.areas.start();
    this.areas.go(entered);
  }

  /** An area's address stays; what belonged to the way in goes. */
  #takeAddress() {
    const { hash, pathname, search } = location;
    this.arrivedWith = hash;
    const wanted = hash.startsWith('#/') ? hash : this.#wanted;
    this.#wanted = '';
    if (wanted !== hash) history.replaceState(null, '', `${pathname}${search}${wanted}`);
  }

  /** @param {string|null} reason a close reason; null: nobody was signed in */
  #showSignedOut(reason) {
    const { title, text } = goodbye(this.#leaving || reason,
      this.provider && this.providers.title(this.provider));
    this.#signedIn = false;
    this.#leaving = this.provider = '';
    if (reason !== 'unreachable') keepHint(false);
    if (location.hash.startsWith('#/')) this.#wanted = location.hash;
    this.client.close();
    this.areas.stop();
    this.user = null;
    this.frames = [];
    this.api.forgetEarly();
    this.providers.ready();
    setText(byId('account-name'), '');
    for (const id of ['loading', 'account', 'signed-in', 'notice']) byId(id).hidden = true;
    this.door.hide();
    this.door.show(false);
    if (reason) this.door.tell(title, text);
  }

  #signOutFailed() {
    this.#signedIn = true;
    this.door.tell('You are still signed in',
      'Signing out did not reach the server. Try again in a moment.');
  }

  #moved() {
    if (this.#signedIn) {
      this.areas.go(true);
      return;
    }
    if (location.hash.startsWith('#/')) this.#wanted = location.hash;
    byId('notice').hidden = true;
    this.door.show(true);
  }

  /** @param {import('./usher-types.js').UsherFrame} passed */
  #keep(passed) {
    this.frames.push({ ...passed, at: new Date() });
    if (this.frames.length > MAX_FRAMES) this.frames.shift();
  }

  /** @param {import('./usher-types.js').UsherState} state */
  #onState(state) {
    if (!this.#signedIn) return;
    if (state.name === 'joined') {
      byId('notice').hidden = true;
      if (state.session.user.id !== this.user.id) this.#rescue();
    }
    if (state.name !== 'closed' || state.retry !== 'login') return;
    if (state.code === 4401 && performance.now() - this.#rescuedAt > RESCUE_PAUSE_MS) this.#rescue();
    else this.#showSignedOut(state.reason);
  }

  /** A ticket can be too old, after a sleep say, while the sign-in still holds: looks once. */
  async #rescue() {
    this.#rescuedAt = performance.now();
    try {
      this.#showSignedIn(await this.api.me());
    } catch {
      this.#showSignedOut('unauthenticated');
    }
  }
}

/** Whether this browser was signed in when the page was last left. It only decides what is shown
 *  while the server is asked. */
function wasSignedIn() {
  try {
    return localStorage.getItem(HINT) !== null;
  } catch {
    return false; // storage is blocked
  }
}

/** @param {boolean} is */
function keepHint(is) {
  try {
    if (is) localStorage.setItem(HINT, '1');
    else localStorage.removeItem(HINT);
  } catch {} // as above
}

const { user, sessions } = start;
start.user = start.sessions = null;
const app = new App();
if (sessions && ['', 'account'].includes(parseAddress(location.hash).name)) {
  app.api.bring('/api/sessions', { items: sessions });
}
app.start(user);
