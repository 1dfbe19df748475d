/** One user: how they sign in, where they are, and what an administrator may do. */

import { make, setText, timeElement } from '../dom.js';
import { update } from '../update.js';
import { deviceText, providerOf } from '../words.js';
import { attempt, button, errorPlace, head, when } from './parts.js';

const POLL_MS = 5000;
const plural = (/** @type {number} */ n, /** @type {string} */ noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context  @param {string} id */
export async function showUser(place, context, id) {
  const { app, calls, signal } = context;
  const titles = head('');
  const facts = make('dl', { class: 'facts' });
  const sessions = make('ul', { class: 'entries' });
  const here = make('p', { class: 'hint' });
  const acts = make('div', { class: 'admin-acts' });
  const error = errorPlace();
  let before = '';

  /** @param {any} user */
  function draw(user) {
    if (JSON.stringify(user) === before) return;
    before = JSON.stringify(user);
    const sockets = user.sessions.reduce((/** @type {number} */ sum, /** @type {any} */ s) => sum + s.live_sockets, 0);
    setText(/** @type {Element} */ (titles.querySelector('h2')), user.name);
    update(facts, factsOf(user).map(([title, ...value]) => (
      make('div', { 'data-key': title }, make('dt', {}, title), make('dd', {}, ...value)))));
    setText(here, user.sessions.length
      ? `${plural(user.sessions.length, 'session')}, ${plural(sockets, 'open socket')}` : 'Not signed in anywhere.');
    update(sessions, user.sessions.map(sessionRow));
    update(acts, actsOf(user, sockets));
  }

  const load = async () => {
    const user = await calls.user(id);
    if (!signal.aborted) draw(user);
  };

  /** An act with its question, and what is said when it is done.
   *  @param {string} text  @param {any} question  @param {() => Promise<any>} act
   *  @param {string} done  @param {string} [kind] */
  const asks = (text, question, act, done, kind = 'plain') => button(text, () => attempt(app, async () => {
    if (!await app.ask({ title: `${text}?`, yes: text, danger: true, ...question })) return;
    await act();
    app.toast(done);
    await load();
  }, error), kind);

  /** @param {any} user  @param {number} sockets  @returns {HTMLElement[]} */
  function actsOf({ name, role, disabled, second_factor, sessions: all }, sockets) {
    const closes = `${plural(all.length, 'session')} end and ${plural(sockets, 'open socket')} close at once.`
      .replace('1 session end', '1 session ends').replace('1 open socket close ', '1 open socket closes ');
    const admin = role === 'admin';
    const found = [
      admin ? asks('Make a user', { title: `Take the administrator's rights from ${name}?`,
        text: 'They see no administration any more, and keys that they made stop working. Open sockets close and come back as a user’s.' },
      () => calls.changeUser(id, { role: 'user' }), `${name} is a user now`)
        : asks('Make an administrator', { title: `Make ${name} an administrator?`, danger: false,
          text: 'They can read and change everything here, remove users, and enter every room.' },
        () => calls.changeUser(id, { role: 'admin' }), `${name} is an administrator now`),
      asks('Sign out everywhere', { title: `Sign ${name} out everywhere?`, text: `${closes} They can sign in again.` },
        () => calls.disconnect(id), `${name} is signed out everywhere`),
    ];
    if (second_factor) {
      found.push(asks('Remove second step', { title: `Remove ${name}’s second step?`,
        text: 'Their authenticator app, recovery codes and passkeys are removed, and they are signed out. Do this only if you are sure who asks.' },
      () => calls.removeFactors(id), 'The second step is removed'));
    }
    found.push(disabled
      ? asks('Enable', { title: `Enable ${name}?`, danger: false, text: 'They can sign in again.' },
        () => calls.changeUser(id, { disabled: false }), `${name} is enabled`)
      : asks('Disable', { title: `Disable ${name}?`, text: `${closes} They cannot sign in until you enable them.` },
        () => calls.changeUser(id, { disabled: true }), `${name} is disabled`));
    const remove = button('Delete', () => attempt(app, async () => {
      if (!await app.ask({ title: `Delete ${name} for good?`, yes: 'Delete for good', danger: true,
        text: `${closes} The account and its memberships are deleted. Rooms stay, and so do messages. This cannot be undone.` })) return;
      await calls.deleteUser(id);
      app.toast(`${name} is deleted`);
      if (id === app.user.id) app.left('account_deleted');
      else app.go('admin/users');
    }, error));
    return [...found, remove];
  }

  draw(await calls.user(id));
  place.append(make('a', { class: 'admin-back', href: '#/admin/users' }, '← Users'), titles, facts,
    make('section', { class: 'part' }, make('div', { class: 'panel-head' }, make('h3', {}, 'Where they are signed in'), here), sessions),
    make('section', { class: 'part' }, make('h3', {}, 'Change'), error, acts),
    make('p', {}, make('a', { href: `#/admin/audit?subject=${encodeURIComponent(id)}` }, 'What happened to this account')));
  let timer = 0;
  const turn = async () => {
    if (!document.hidden && place.checkVisibility()) await load().catch(() => {}); // an act says more
    if (!signal.aborted) timer = setTimeout(turn, POLL_MS);
  };
  timer = setTimeout(turn, POLL_MS);
  signal.addEventListener('abort', () => clearTimeout(timer));
}

/** @param {any} user  @returns {[string, ...(Node|string)[]][]} */
function factsOf(user) {
  const ways = [...(user.has_password ? ['password'] : []), ...user.providers,
    ...(user.passkeys ? [plural(user.passkeys, 'passkey')] : [])];
  return [
    ['E-mail address', user.email, ' ', make('span', { class: 'tag quiet' },
      user.email_verified ? 'confirmed' : 'not confirmed')],
    ['Role', user.role === 'admin' ? 'Administrator' : 'User',
      ...(user.disabled ? [' ', make('span', { class: 'tag bad' }, 'disabled')] : [])],
    ['Signs in with', ways.join(', ') || 'nothing yet'],
    ['Second step', user.second_factor ? 'authenticator app' : 'none'],
    ['Since', when(user.created_at)],
    ['Id', make('code', {}, user.id)],
  ];
}

/** @param {any} session  @returns {HTMLElement} */
function sessionRow({ id, device, ip, client, method, created_at, last_seen_at, live_sockets }) {
  return make('li', { 'data-key': id }, make('div', {}, make('strong', { title: device }, deviceText(device)),
    make('p', {}, `${client === 'native' ? 'app · ' : ''}${ip} · by ${providerOf(method) || method}`),
    make('p', {}, 'Since ', timeElement(created_at), ' · last seen ', timeElement(last_seen_at))),
  make('span', { class: live_sockets ? 'tag' : 'tag quiet' }, plural(live_sockets, 'socket')));
}
