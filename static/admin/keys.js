/** Keys of backends: shown once, with scopes and last use. */

import { make } from '../dom.js';
import { onSubmit, showFormError } from '../forms.js';
import { dialog, emptyState } from '../ui.js';
import { attempt, button, choices, chosen, errorPlace, field, head, pages, select, showOnce, until,
  when } from './parts.js';

const DAY = 86_400;
/** @type {[string, string][]} */
const SCOPES = [
  ['introspect', 'ask who a token belongs to'],
  ['publish', 'send events into rooms'],
  ['read', 'list users'],
  ['users', 'find users by address, open accounts, change roles'],
  ['channels', 'make, change and delete rooms'],
  ['disconnect', 'sign users out everywhere'],
];

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context */
export async function show(place, context) {
  const { app, calls } = context;
  const list = make('ul', { class: 'entries' });
  const shown = pages(context, {
    read: () => calls.keys(),
    list,
    noun: 'keys',
    empty: () => emptyState('No keys', 'A backend of yours needs one to ask who a user is, or to send events into rooms.'),
    row: ({ id, name, scopes, created_at, created_by, last_used_at, expires_at }) => make('li', {},
      make('div', {}, make('strong', {}, name),
        make('div', { class: 'admin-tags' }, ...scopes.map((/** @type {string} */ scope) => (
          make('span', { class: 'tag quiet' }, scope)))),
        make('p', {}, 'Last used ', when(last_used_at), ' · made ', when(created_at), ' by ', created_by
          ? make('a', { href: `#/admin/users/${encodeURIComponent(created_by)}` }, 'an administrator')
          : 'the command line', ` · ${expires_at ? `until ${until(expires_at)}` : 'does not expire'}`)),
      button('Revoke', () => attempt(app, async () => {
        if (!await app.ask({ title: `Revoke the key ${name}?`, yes: 'Revoke', danger: true,
          text: 'A backend that uses it is refused at once. This cannot be undone.' })) return;
        await calls.revokeKey(id);
        app.toast(`The key ${name} is revoked`);
        await shown.load();
      }), 'plain', `the key ${name}`)),
  });
  place.append(head('Keys', button('Make a key', () => create(), '')), shown.element);
  await shown.load();

  function create() {
    const form = make('form', { novalidate: '' },
      field('Name', { name: 'name', required: '', maxlength: '100' }, 'What uses it, “shop” say.'),
      choices('What it may do', SCOPES),
      select('Expires', 'days', [['', 'never'], ['30', 'in 30 days'], ['90', 'in 90 days'], ['365', 'in a year']]),
      errorPlace(),
      make('div', { class: 'actions' }, make('button', { type: 'submit' }, 'Make the key'),
        button('Cancel', () => box.close())));
    const box = dialog('Make a key', form);
    onSubmit(form, async ({ name, days }) => {
      const scopes = chosen(form);
      if (!scopes.length) return showFormError(form, 'Choose at least one thing that it may do.');
      const { key } = await calls.newKey({ name, scopes,
        ...(days && { expires_at: Date.now() / 1000 + Number(days) * DAY }) });
      box.close();
      showOnce(`The key ${name}`, 'It is shown this once. Keep it where only your backend reads it, and not in its code.',
        key, 'the key');
      attempt(app, shown.load);
    }, (problem) => {
      if (problem.signedOut) return app.ended();
      showFormError(form, problem.message);
    });
    box.showModal();
  }
}
