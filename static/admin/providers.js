/** Providers that users sign in with: how they are set, and whether they answer. */

import { make } from '../dom.js';
import { copyable, emptyState } from '../ui.js';
import { attempt, button, head, when } from './parts.js';

/** @type {Record<string, [string, string]>} */
const STATES = { ok: ['tag', 'answers'], unavailable: ['tag bad', 'does not answer'], unknown: ['tag quiet', 'not asked yet'] };

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context */
export async function show(place, { app, calls, signal }) {
  const list = make('div', {});
  place.append(head('Providers'), list);
  const { items } = await calls.providers();
  if (!items.length) {
    list.append(emptyState('No providers', 'Users sign in with a password. To add Google, GitHub, Microsoft or '
      + 'another one, set USHER_OAUTH_PROVIDERS and restart.'));
    return;
  }
  list.append(...items.map(part));

  /** @param {any} provider  @returns {HTMLElement} */
  function part(provider) {
    const { name, title, issuer, client_id, scopes, signup, email_domains, redirect_uri,
      backchannel_logout_uri, state, state_at, problem } = provider;
    const [kind, word] = STATES[state];
    const check = button('Check now', () => attempt(app, async () => {
      const now = part(await calls.checkProvider(name));
      if (signal.aborted) return;
      section.replaceWith(now);
      now.querySelector('button')?.focus();
      app.announce(`${title}: ${now.querySelector('.tag')?.textContent}`);
    }), 'plain', title);
    const section = make('section', { class: 'part' },
      make('div', { class: 'panel-head' }, make('h3', {}, title, ' ', make('span', { class: kind }, word)), check),
      ...(problem ? [make('p', { class: 'form-error' }, problem)] : []),
      make('dl', { class: 'facts' }, ...[
        ['Issuer', issuer ?? 'built in'], ['Client id', client_id], ['Scopes', scopes.join(' ') || 'usual ones'],
        ['New accounts', signup ? 'can be made' : 'cannot be made'],
        ['Addresses', email_domains.join(', ') || 'of any domain'],
        ['Last asked', when(state_at)],
      ].map(([term, value]) => make('div', {}, make('dt', {}, term), make('dd', {}, value)))),
      make('p', { class: 'hint' }, `Register these addresses at ${title}: where it sends users back to, and where it tells of a logout.`),
      copyable(redirect_uri, 'the redirect URI'), copyable(backchannel_logout_uri, 'the logout URI'));
    return section;
  }
}
