/** Account: where somebody is signed in, how they sign in, and what is theirs. */

import { byId, fromMarkup, setText } from '../dom.js';
import { wireRevealButtons } from '../forms.js';
import { FactorsView } from './factors-view.js';
import { offerFirstSteps } from './first-steps.js';
import { LinkedView } from './linked-view.js';
import { MARKUP } from './markup.js';
import { PasswordView } from './password-view.js';
import { ProfileView } from './profile-view.js';
import { SessionsView } from './sessions-view.js';

/** @param {HTMLElement} element  @param {import('../app.js').App} app */
export function mount(element, app) {
  element.append(fromMarkup(MARKUP));
  wireRevealButtons(element);
  const { api, providers, user } = app;
  const ended = () => app.ended();
  showMe(user);
  offerFirstSteps(app);
  const sessions = new SessionsView(api, providers, {
    ask: (question) => app.ask(question),
    signOut: (there) => app.signOut(there),
    ended,
    shown: () => { app.provider = sessions.provider; linked.show(); },
  });
  const linked = new LinkedView(api, providers, {
    leaving: (reason) => app.leaving(reason),
    ended,
    provider: () => sessions.provider,
    known: () => sessions.known,
  });
  const profile = new ProfileView(api, {
    leaving: (is) => app.leaving(is ? 'account_deleted' : ''),
    left: () => app.left('account_deleted'),
    ended,
    renamed: (name) => { app.renamed(name); showMe(app.user); },
  });
  const password = new PasswordView(api, {
    ended,
    changed: () => { sessions.load(); linked.load(); },
  });
  const factors = new FactorsView(api, element.querySelector('#factors .part-body'), ended);
  const stop = new AbortController();
  const watch = () => {
    app.client.request('watch-sessions').catch(() => {}); // a server of before: at the next visit
    sessions.load();
  };
  app.client.addEventListener('state', (/** @type {any} */ { detail }) => {
    if (detail.name === 'joined') watch();
  }, { signal: stop.signal });
  app.client.addEventListener('sessions-changed', () => sessions.load(), { signal: stop.signal });
  if (app.client.state.name === 'joined') watch();
  sessions.start();
  linked.start(user.email, app.arrivedWith);
  profile.start(user);
  password.start(user);
  factors.start();
  return {
    open() { sessions.load(); },
    unmount() {
      stop.abort();
      for (const view of [sessions, linked, profile, factors]) view.stop();
    },
  };
}

/** @param {any} user */
function showMe({ name, email, role }) {
  const initials = name.split(/\s+/).filter(Boolean).map((/** @type {string} */ word) => [...word][0]);
  setText(byId('me-face'), [...new Set([initials[0], initials.at(-1)])].join('').toUpperCase());
  setText(byId('me-name'), name);
  setText(byId('me-email'), email);
  byId('me-role').hidden = role !== 'admin';
}
