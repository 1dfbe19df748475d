/** One room: who is here, what was said, and a place to say something. */

import { make, setText } from '../dom.js';
import { emptyState } from '../ui.js';
import { update } from '../update.js';
import { linesOf } from './lines.js';
import { leaveOrDelete, manage } from './manage.js';

const NEAR_END_PX = 80;
const TYPING_PAUSE_MS = 3000;
const MAX_HERE = 100; // names that are shown; the number says how many there are

/** What a refusal of `message` says here. */
const REFUSED = {
  forbidden: 'You may read here, but not write.',
  rate_limited: 'That was too much at once. Try again in a moment.',
  too_big: 'This message is too long.',
  not_joined: 'There is no connection. Your text stays here until there is one.',
  step_up_needed: 'This room needs a fresh proof that it is you.',
};

const NOTHING = { key: 'nothing',
  element: () => make('li', { class: 'hint' }, 'Nothing was said here yet.') };

export class Conversation {
  #typedAt = -Infinity;
  #drawn = 0;
  #timer = 0;
  #ended = false;
  #next = false; // somebody wants to send what stands there now
  /** @type {WeakMap<Element, string>} which line an element shows */ #keys = new WeakMap();

  /** @param {HTMLElement} place  @param {import('../app.js').App} app
   *  @param {import('./store.js').RoomStore} store  @param {string} room
   *  @param {() => Promise<void>} reload */
  constructor(place, app, store, room, reload) {
    Object.assign(this, { place, app, store, room, reload });
    this.app = app;
    this.store = store;
    this.state = /** @type {import('./store.js').RoomState} */ (store.rooms.get(room));
    this.title = make('h2', { tabindex: '-1' });
    this.marks = make('p', { class: 'room-marks' });
    this.settings = this.#button('People and settings', () => manage(app, this.state.channel, reload));
    this.leave = this.#button('Leave', () => leaveOrDelete(app, store, room, this.state.channel, reload));
    this.list = make('ol', {});
    this.log = make('div', { class: 'lines', role: 'log', tabindex: '0', id: 'lines' }, this.list);
    this.down = this.#button('Newest messages ↓', () => this.#toEnd());
    this.down.classList.add('to-end');
    this.typing = make('p', { class: 'typing hint', 'aria-live': 'polite' });
    this.here = make('ul', { class: 'here-list', id: 'here' });
    this.hereTitle = make('h3', { id: 'here-title' }, 'Here');
    this.here.setAttribute('aria-labelledby', 'here-title');
    this.outside = make('div', { class: 'outside' });
    place.replaceChildren(
      make('div', { class: 'room-main' },
        make('header', { class: 'room-head' },
          make('a', { href: '#/rooms', class: 'room-back' }, '← Rooms'),
          make('div', { class: 'room-title' }, this.title, this.marks),
          make('div', { class: 'row' }, this.settings, this.leave)),
        this.outside, make('div', { class: 'log' }, this.log, this.down), this.typing, this.#composer()),
      make('aside', { class: 'room-here' }, this.hereTitle, this.here));
    this.log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.channelChanged();
    this.stateChanged();
    this.#enter();
    this.timer = setInterval(() => this.#showTyping(), 1000);
  }

  stop() {
    this.#ended = true;
    clearInterval(this.timer);
    cancelAnimationFrame(this.#drawn);
    this.place.replaceChildren();
    this.state.firstUnread = '';
  }

  /** @param {string} text  @param {() => void} act */
  #button(text, act) {
    const button = make('button', { type: 'button', class: 'plain small' }, text);
    button.addEventListener('click', act);
    return button;
  }

  #composer() {
    this.text = make('textarea', { id: 'say', rows: '1', maxlength: '8000', autocomplete: 'off',
      'aria-describedby': 'say-error' });
    this.error = make('p', { id: 'say-error', class: 'form-error', role: 'alert' });
    this.form = make('form', { class: 'say', novalidate: '' },
      this.label = make('label', { for: 'say', class: 'unseen' }),
      this.text, make('button', { type: 'submit' }, 'Send'), this.error);
    this.form.addEventListener('submit', (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#send();
    });
    this.text.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.text.addEventListener('input', () => this.#typed());
    return this.form;
  }

  /** The name or the rights have changed. */
  channelChanged() {
    this.state = this.store.rooms.get(this.room) ?? this.state;
    const { channel } = this.state;
    setText(this.title, channel.name);
    update(this.marks, [make('span', { class: 'tag quiet' }, channel.private ? 'Members only' : 'Open to everybody'),
      ...(channel.step_up ? [make('span', { class: 'tag quiet' }, 'Fresh proof needed')] : [])]);
    this.settings.hidden = channel.right !== 'manage';
    setText(this.label, `Message to ${channel.name}`);
    this.text.placeholder = channel.right === 'read' ? 'You may read here, but not write' : `Message to ${channel.name}`;
    this.text.readOnly = channel.right === 'read';
    this.log.setAttribute('aria-label', `Messages in ${channel.name}`);
    setText(this.leave, this.#mine() ? 'Delete' : 'Leave');
    this.#showLeave();
  }

  #mine() { return this.state.channel.owner_id === this.app.user?.id; }

  /** Who is not in an open room has nothing to leave: not even a membership. */
  #showLeave() {
    this.leave.hidden = !this.outside.hidden && !this.state.channel.private && !this.#mine();
  }

  /** The connection, or the rooms of the socket, have changed. */
  stateChanged() {
    const joined = this.store.joined(this.room);
    const connected = this.store.client.state.name === 'joined';
    this.form.hidden = connected && !joined;
    this.outside.hidden = !connected || joined;
    this.hereTitle.hidden = !this.outside.hidden;
    this.#showLeave();
    if (!this.outside.hidden && !this.outside.children.length) this.outside.append(this.#way());
    if (joined) this.outside.replaceChildren();
  }

  /** What leads into a room that the socket is not in. */
  #way() {
    const { step_up: proof } = this.state.channel;
    const button = this.#button(proof ? 'Confirm that it is you' : 'Enter', async () => {
      try {
        if (proof && !await this.#prove()) return;
        await this.store.client.request('join', { room: this.room });
      } catch (problem) {
        this.app.toast(/** @type {Error} */ (problem).message);
      }
    });
    return emptyState(proof ? 'This room needs a fresh proof' : 'You are not in this room',
      proof ? 'Confirm that it is you to read and write here for a while.' : 'You do not receive its messages.', button);
  }

  async #prove() {
    const [linked, totp, passkeys] = await Promise.all([
      this.app.api.linked(), this.app.api.totp(), this.app.api.passkeys()]);
    const methods = [...(totp.enabled ? ['totp'] : []), ...(passkeys.items.length ? ['passkey'] : []),
      ...(linked.has_password ? ['password'] : [])];
    return this.app.api.confirm(methods);
  }

  async #enter() {
    try {
      await this.store.enter(this.room);
      if (!this.#ended) this.#toEnd();
    } catch (problem) {
      const { code } = /** @type {any} */ (problem);
      if (this.#ended || code === 'closed' || code === 'not_joined') return; // comes again with the connection
      setText(this.error, REFUSED[/** @type {keyof REFUSED} */ (code)] ?? /** @type {Error} */ (problem).message);
    }
  }

  // ---- what is shown -------------------------------------------------------------------------

  /** Something of this room has changed: drawn once before the next frame. */
  update() {
    cancelAnimationFrame(this.#drawn);
    this.#drawn = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const { log } = this;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
    const lines = linesOf(this.state, this.app.user?.id ?? '');
    this.#keep(lines.length ? lines : [NOTHING]);
    if (atEnd) this.#toEnd();
    else this.#scrolled();
    this.#showHere();
    this.#showTyping();
  }

  /** Takes out what is not there any more, and puts in what is new; the rest is not touched.
   *  @param {import('./lines.js').Shown[]} lines */
  #keep(lines) {
    const wanted = new Set(lines.map(({ key }) => key));
    for (const element of [...this.list.children]) {
      if (!wanted.has(this.#keys.get(element) ?? '')) element.remove();
    }
    let next = this.list.firstElementChild;
    for (const { key, element } of lines) {
      if (next && this.#keys.get(next) === key) {
        next = next.nextElementSibling;
        continue;
      }
      const made = element();
      this.#keys.set(made, key);
      this.list.insertBefore(made, next);
    }
    while (next) { // of another order than before
      const after = next.nextElementSibling;
      next.remove();
      next = after;
    }
  }

  #toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.down.hidden = true;
  }

  #scrolled() {
    const { log } = this;
    this.down.hidden = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
  }

  #showHere() {
    const people = [...this.state.here.values()].sort((a, b) => a.name.localeCompare(b.name));
    const total = Math.max(this.state.total, people.length);
    const me = this.app.user?.id;
    update(this.here, [...people.slice(0, MAX_HERE).map(({ id, name }) => (
      make('li', { 'data-key': id }, name, ...(id === me ? [make('span', { class: 'quiet' }, ' (you)')] : [])))),
    ...(total > MAX_HERE ? [make('li', { class: 'quiet' }, `and ${total - MAX_HERE} others`)] : [])]);
  }

  #showTyping() {
    const names = this.state.typists(Date.now());
    setText(this.typing, names.length === 0 ? '' : names.length === 1 ? `${names[0]} is typing…`
      : names.length < 4 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)} are typing…`
        : 'Several people are typing…');
  }

  // ---- saying something ----------------------------------------------------------------------

  #typed() {
    setText(this.error, '');
    if (!this.text.value || performance.now() - this.#typedAt < TYPING_PAUSE_MS) return;
    this.#typedAt = performance.now();
    try {
      this.store.client.send('typing', { room: this.room });
    } catch {} // not connected: nobody would see it
  }

  async #send() {
    const text = this.text.value.trim();
    if (!text || this.text.readOnly) return;
    if (this.form.dataset.busy) {
      this.#next = true; // the answer to the one before may be on its way for long
      return;
    }
    this.form.dataset.busy = 'yes';
    setText(this.error, '');
    try {
      await this.store.client.request('message', { room: this.room, data: { text } });
      if (this.text.value.trim() === text) this.text.value = '';
      this.#typedAt = -Infinity;
      this.#toEnd();
    } catch (problem) {
      const { code, message } = /** @type {any} */ (problem);
      setText(this.error, REFUSED[/** @type {keyof REFUSED} */ (code)] ?? message);
    } finally {
      delete this.form.dataset.busy;
      this.text.focus();
      const next = this.#next && this.text.value.trim() !== text;
      this.#next = false;
      if (next) this.#send();
    }
  }
}
