/** Users: found by name or address, and invited. One user is in user.js. */

import { make } from '../dom.js';
import { onSubmit, showFormError } from '../forms.js';
import { dialog, emptyState } from '../ui.js';
import { attempt, button, errorPlace, field, head, keepInAddress, pages, searchField, select,
  showOnce, table, until, when } from './parts.js';
import { showUser } from './user.js';

const DAY = 86_400;

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context  @param {string[]} path
 *  @param {URLSearchParams} query */
export async function show(place, context, path, query) {
  if (path[0] === 'invitations') return showInvitations(place, context);
  if (path[0]) return showUser(place, context, path[0]);
  const { app, calls } = context;
  let q = query.get('q') ?? '';
  const { element, body } = table(['Name', 'E-mail address', 'Role', 'Since'], 'Users');
  const list = pages(context, {
    read: (after) => calls.users({ q, after }),
    list: body,
    row: rowOf,
    noun: 'users',
    empty: () => (q ? emptyState('Nobody found', `No name or address has “${q}” in it.`)
      : emptyState('No users', 'Invite somebody, or let people sign up.')),
  });
  list.element.prepend(element);
  place.append(
    head('Users', make('a', { href: '#/admin/users/invitations' }, 'Invitations'),
      button('Open an account', () => openAccount(context, () => attempt(app, list.load))),
      button('Invite', () => invite(context), '')),
    searchField('Search by name, e-mail address or id', q, (text) => {
      q = text;
      keepInAddress({ q });
      attempt(app, list.load);
    }),
    list.element);
  await list.load();
}

/** @param {any} user  @returns {HTMLElement} */
function rowOf({ id, name, email, role, disabled, created_at }) {
  const tags = [...(role === 'admin' ? [make('span', { class: 'tag' }, 'administrator')] : ['user']),
    ...(disabled ? [' ', make('span', { class: 'tag bad' }, 'disabled')] : [])];
  return make('tr', {},
    make('th', { scope: 'row' }, make('a', { href: `#/admin/users/${encodeURIComponent(id)}` }, name)),
    make('td', { class: 'admin-long' }, email), make('td', {}, ...tags), make('td', {}, when(created_at)));
}

/** Opens an account for somebody, and shows the link by which they set their password.
 *  @param {import('./admin.js').Context} context  @param {() => void} opened */
function openAccount({ app, calls }, opened) {
  const form = make('form', { novalidate: '' },
    field('Name', { name: 'name', required: '', maxlength: '100' }),
    field('E-mail address', { name: 'email', type: 'email', required: '', maxlength: '254' }),
    errorPlace(),
    make('div', { class: 'actions' }, make('button', { type: 'submit' }, 'Open the account'),
      button('Cancel', () => box.close())));
  const box = dialog('Open an account', form);
  onSubmit(form, async ({ name, email }) => {
    const { set_password_url: url, expires_at } = await calls.openAccount({ name, email });
    box.close();
    showOnce(`The account of ${name}`, 'Give this link to its user, who sets a password with it. It '
      + `works once, until ${new Date(expires_at * 1000).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })}, `
      + 'and is not shown again.', url, 'the link');
    opened();
  }, (problem) => {
    if (problem.signedOut) return app.ended();
    showFormError(form, problem.message);
  });
  box.showModal();
}

/** Makes an invitation, and shows its link.  @param {import('./admin.js').Context} context
 *  @param {() => void} [made] */
function invite({ app, calls }, made = () => {}) {
  const form = make('form', { novalidate: '' },
    field('E-mail address', { name: 'email', type: 'email', maxlength: '254' },
      'Only this address can use the link. Without one, whoever has the link can.'),
    select('Role', 'role', [['user', 'User'], ['admin', 'Administrator']]),
    select('Works for', 'days', [['7', '7 days'], ['1', '1 day'], ['30', '30 days'], ['90', '90 days']]),
    errorPlace(),
    make('div', { class: 'actions' }, make('button', { type: 'submit' }, 'Make the link'),
      button('Cancel', () => box.close())));
  const box = dialog('Invite somebody', form);
  onSubmit(form, async ({ email, role, days }) => {
    const { url, expires_at } = await calls.invite({ ...(email && { email }), role,
      expires_in: Number(days) * DAY });
    box.close();
    showOnce('The invitation', `${email ? `A mail with this link is on its way to ${email}.`
      : 'Give this link to the one you invite.'} It works once, until ${until(expires_at)}, and is `
      + 'not shown again.', url, 'the link');
    made();
  }, (problem) => {
    if (problem.signedOut) return app.ended();
    showFormError(form, problem.message);
  });
  box.showModal();
}

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context */
async function showInvitations(place, context) {
  const { app, calls } = context;
  const list = make('ul', { class: 'entries' });
  const shown = pages(context, {
    read: (after) => calls.invitations(after),
    list,
    noun: 'invitations',
    empty: () => emptyState('No invitations', 'One is listed here until it is used or has expired.'),
    row: ({ id, email, role, created_at, expires_at }) => make('li', {},
      make('div', {}, make('strong', {}, email ?? 'Whoever has the link'),
        ...(role === 'admin' ? [' ', make('span', { class: 'tag' }, 'administrator')] : []),
        make('p', {}, 'Made ', when(created_at), ` · works until ${until(expires_at)}`)),
      button('Revoke', () => attempt(app, async () => {
        if (!await app.ask({ title: 'Revoke this invitation?', yes: 'Revoke', danger: true,
          text: 'Its link stops working at once.' })) return;
        await calls.revokeInvitation(id);
        app.toast('The invitation is revoked');
        await shown.load();
      }), 'plain', `the invitation of ${email ?? 'whoever has the link'}`)),
  });
  place.append(make('a', { class: 'admin-back', href: '#/admin/users' }, '← Users'),
    head('Invitations', button('Invite', () => invite(context, () => attempt(app, shown.load)), '')),
    shown.element);
  await shown.load();
}
