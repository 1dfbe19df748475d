/** Dialogs about a channel: a new one, its people and settings, and leaving it. */

import { make, setText } from '../dom.js';
import { dialog } from '../ui.js';
import { update } from '../update.js';

const RIGHTS = { read: 'May read', write: 'May write', manage: 'May manage' };
const enc = encodeURIComponent;

/** What a refusal says here.  @param {any} problem  @returns {string} */
function words(problem) {
  if (problem.code === 'step_up_needed') return 'Nothing was changed: it was not confirmed that it is you.';
  if (problem.status === 404) return 'Nobody here has this address.';
  return problem.message;
}

/** @param {string} id  @param {string} text  @param {Record<string, string>} more */
const field = (id, text, more) => make('div', { class: 'field' }, make('label', { for: id }, text),
  make('input', { id, autocomplete: 'off', ...more }));

/** @param {string} id  @param {string} text  @param {boolean} on */
function check(id, text, on) {
  const box = make('input', { id, type: 'checkbox' });
  box.checked = on;
  return make('label', { class: 'check', for: id }, box, text);
}

/** @param {string} text  @param {() => void} act  @param {string} [kind] */
function button(text, act, kind = 'plain small') {
  const element = make('button', { type: 'button', class: kind }, text);
  element.onclick = act;
  return element;
}

/** Asks for a name and makes the channel.  @param {import('../app.js').App} app
 *  @returns {Promise<any>} the channel, or null */
export function newChannel(app) {
  const error = make('p', { class: 'form-error', role: 'alert' });
  const name = field('channel-name', 'Name', { maxlength: '80', required: '' });
  const closed = check('channel-private', 'Only for members', true);
  const form = make('form', { class: 'dialog-form', novalidate: '' }, name, closed, error,
    make('div', { class: 'actions' }, make('button', { type: 'submit' }, 'Make the room'),
      button('Cancel', () => box.close(), 'plain')));
  const box = dialog('New room', form);
  return new Promise((resolve) => {
    let made = null;
    form.addEventListener('submit', async (/** @type {Event} */ event) => {
      event.preventDefault();
      const wanted = name.querySelector('input').value.trim();
      if (!wanted) return setText(error, 'A room needs a name.');
      try {
        made = await app.api.call('POST', '/api/channels',
          { name: wanted, private: closed.querySelector('input').checked });
        box.close();
      } catch (problem) {
        setText(error, words(problem));
      }
    });
    box.addEventListener('close', () => resolve(made));
    box.showModal();
    name.querySelector('input').focus();
  });
}

/** People and settings of a channel.  @param {import('../app.js').App} app  @param {any} channel
 *  @param {() => Promise<void>} reload */
export async function manage(app, channel, reload) {
  const path = `/api/channels/${enc(channel.id)}`;
  const error = make('p', { class: 'form-error', role: 'alert' });
  const people = make('ul', { class: 'entries', id: 'members' });
  const none = make('p', { class: 'hint' }, 'Nobody but its owner.');
  let changed = false;

  /** @param {() => Promise<any>} act */
  async function attempt(act) {
    setText(error, '');
    try {
      await act();
      changed = true;
      return true;
    } catch (problem) {
      if (/** @type {any} */ (problem).signedOut) app.ended();
      else setText(error, words(problem));
      return false;
    }
  }

  /** @param {any} member */
  function row({ id, name, right }) {
    const choice = make('select', { 'aria-label': `What ${name} may do` },
      ...Object.entries(RIGHTS).map(([value, text]) => make('option', { value }, text)));
    choice.value = right;
    choice.onchange = async (/** @type {any} */ { currentTarget: target }) => {
      if (!await attempt(() => app.api.call('PUT', `${path}/members/${enc(id)}`, { right: target.value }))) target.value = right;
    };
    const out = button('Remove', async () => {
      if (await attempt(() => app.api.call('DELETE', `${path}/members/${enc(id)}`))) await read();
    });
    out.append(make('span', { class: 'unseen' }, ` ${name}`));
    return make('li', { class: 'member', 'data-key': id }, make('span', { class: 'member-name' }, name), choice, out);
  }

  async function read() {
    const { members = [] } = await app.api.call('GET', path);
    update(people, members.map(row));
    none.hidden = members.length > 0;
  }

  const address = field('member-email', 'Add somebody by e-mail address', { type: 'email', required: '' });
  const add = make('form', { class: 'dialog-form', novalidate: '' }, address,
    make('div', { class: 'actions' }, make('button', { type: 'submit', class: 'small' }, 'Add')));
  add.addEventListener('submit', async (/** @type {Event} */ event) => {
    event.preventDefault();
    const input = address.querySelector('input');
    if (!input.value.trim()) return;
    if (await attempt(() => app.api.call('POST', `${path}/members`, { email: input.value.trim() }))) {
      input.value = '';
      await read();
      app.announce('Added');
    }
  });
  const name = field('channel-rename', 'Name', { maxlength: '80', required: '' });
  name.querySelector('input').value = channel.name;
  const closed = check('channel-closed', 'Only for members', channel.private);
  const proof = check('channel-proof', 'Needs a fresh proof that it is you', channel.step_up);
  const settings = make('form', { class: 'dialog-form', novalidate: '' }, name, closed, proof,
    make('div', { class: 'actions' }, make('button', { type: 'submit', class: 'small' }, 'Save'),
      button('Close', () => box.close(), 'plain')));
  settings.addEventListener('submit', async (/** @type {Event} */ event) => {
    event.preventDefault();
    const stepUp = proof.querySelector('input').checked;
    const change = { name: name.querySelector('input').value.trim(), private: closed.querySelector('input').checked,
      ...(stepUp !== channel.step_up && { step_up: stepUp }) };
    if (await attempt(() => app.api.call('PATCH', path, change))) box.close();
  });
  const box = dialog(`People and settings of ${channel.name}`, add, error, people, none, make('hr'), settings);
  box.addEventListener('close', () => { if (changed) reload(); });
  try {
    await read();
    box.showModal();
  } catch (problem) {
    box.remove();
    app.toast(words(problem));
  }
}

/** @param {import('../app.js').App} app  @param {import('./store.js').RoomStore} store
 *  @param {string} room  @param {any} channel  @param {() => Promise<void>} reload */
export async function leaveOrDelete(app, store, room, channel, reload) {
  const mine = channel.owner_id === app.user?.id;
  const sure = await app.ask(mine
    ? { title: `Delete ${channel.name}?`, yes: 'Delete for good', danger: true,
      text: 'Everybody leaves it at once, and its messages cannot be read any more. This cannot be undone.' }
    : { title: `Leave ${channel.name}?`, yes: 'Leave',
      text: channel.private ? 'To come back you have to be added again.' : 'You can enter it again at any time.' });
  if (!sure) return;
  try {
    if (mine) await app.api.call('DELETE', `/api/channels/${enc(channel.id)}`);
    else if (channel.private) await app.api.call('DELETE', `/api/channels/${enc(channel.id)}/members/${enc(app.user.id)}`);
    else await store.client.request('leave', { room });
    await reload();
  } catch (problem) {
    if (/** @type {any} */ (problem).signedOut) app.ended();
    else app.toast(words(problem));
  }
}
