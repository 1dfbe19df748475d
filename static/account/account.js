/** Account: where somebody is signed in, how they sign in, and what is theirs. */

import { byId, fromMarkup } from '../dom.js';
import { wireRevealButtons } from '../forms.js';
import { FactorsView } from './factors-view.js';
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
  const sessions = new SessionsView(api, providers, {
    signOut: (there) => app.signOut(there),
    ended,
    shown: () => { app.provider = sessions.provider; linked.show(); },
  });
  const linked = new LinkedView(api, providers, {
    leaving: (reason) => app.leaving(reason),
    ended,
    provider: () => sessions.provider,
  });
  const profile = new ProfileView(api, {
    leaving: (is) => app.leaving(is ? 'account_deleted' : ''),
    left: () => app.left('account_deleted'),
    ended,
    renamed: (name) => app.renamed(name),
  });
  const password = new PasswordView(api, {
    ended,
    changed: () => { sessions.load(); linked.load(); },
  });
  const factors = new FactorsView(api, byId('password'), ended);
  const stop = new AbortController();
  app.client.addEventListener('state', (/** @type {any} */ { detail }) => {
    if (detail.name === 'joined') sessions.load();
  }, { signal: stop.signal });
  sessions.start();
  linked.start(user.email, app.arrivedWith);
  profile.start(user);
  password.start(user);
  factors.start();
  return {
    unmount() {
      stop.abort();
      for (const view of [sessions, linked, profile, factors]) view.stop();
    },
  };
}
