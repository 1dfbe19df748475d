/** The audit trail: who did what, to whom, from where; newest first. */

import { make } from '../dom.js';
import { emptyState } from '../ui.js';
import { attempt, head, keepInAddress, pages, searchField, select, table, userLinks } from './parts.js';

/** @type {[string, string][]} */
const KINDS = [['', 'everything'], ['account.', 'new accounts'], ['session.', 'signing in and out'],
  ['session.refused', 'refused sign-ins'], ['password.', 'passwords'], ['email.', 'addresses'], ['factor.', 'second steps'],
  ['passkey.', 'passkeys'], ['identity.', 'linked accounts'], ['user.', 'acts on users'], ['role.', 'roles'],
  ['invitation.', 'invitations'], ['channel.', 'rooms'], ['member.', 'members of rooms'],
  ['api_key.', 'keys'], ['webhook.', 'webhooks'], ['provider.', 'providers'], ['admin.', 'other acts']];

const USER_ID = /^[A-Za-z0-9_-]{16,}$/; // not a key, nor a word

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context  @param {string[]} path
 *  @param {URLSearchParams} query */
export async function show(place, context, path, query) {
  const { app, calls } = context;
  const userOf = userLinks(context);
  const link = (/** @type {string} */ id) => (USER_ID.test(id) ? userOf(id) : id);
  const which = { kind: query.get('kind') ?? '', actor: query.get('actor') ?? '', subject: query.get('subject') ?? '' };
  const { element, body } = table(['When', 'What', 'Who did it', 'To whom', 'From', 'Why, and on what'], 'Audit trail');
  const list = pages(context, {
    read: (after) => calls.audit({ ...which, after }),
    list: body,
    noun: 'entries',
    empty: () => emptyState('No entries', 'Nothing in the trail fits these filters.'),
    row: ({ at, kind, actor, subject, address, reason, target, count }) => {
      const date = new Date(at * 1000);
      return make('tr', {}, make('td', {}, make('time', { datetime: date.toISOString() },
        date.toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'medium' }))),
      make('th', { scope: 'row' }, make('code', {}, kind), ...(count > 1 ? [` × ${count}`] : [])),
      make('td', {}, link(actor)), make('td', {}, actor === subject ? '' : link(subject)), make('td', {}, address),
      make('td', { class: 'admin-long' }, [reason, target].filter(Boolean).join(' · ')));
    },
  });
  list.element.prepend(element);
  const again = () => {
    keepInAddress(which);
    attempt(app, list.load);
  };
  const kinds = select('What', 'kind', KINDS.some(([value]) => value === which.kind) ? KINDS : [[which.kind, which.kind], ...KINDS]);
  const kind = /** @type {HTMLSelectElement} */ (kinds.querySelector('select'));
  kind.value = which.kind;
  kind.addEventListener('change', () => { which.kind = kind.value; again(); });
  place.append(head('Audit trail'), make('div', { class: 'admin-filter' }, kinds,
    searchField('Who did it (id)', which.actor, (text) => { which.actor = text; again(); }),
    searchField('To whom (id)', which.subject, (text) => { which.subject = text; again(); })), list.element);
  await list.load();
}
