/** Rooms: their list, and the one that is open as a conversation. On the page, a channel is a room. */

import { make } from '../dom.js';
import { update } from '../update.js';
import { emptyState } from '../ui.js';
import { Conversation } from './conversation.js';
import { newChannel } from './manage.js';
import { RoomStore } from './store.js';

/** @param {HTMLElement} element  @param {import('../app.js').App} app */
export function mount(element, app) {
  const view = new RoomsView(element, app);
  return { open: (/** @type {string[]} */ path) => view.open(path[0] ?? ''), unmount: () => view.stop() };
}

class RoomsView {
  /** @type {Conversation|null} */ #shown = null;
  #loaded = false;

  /** @param {HTMLElement} element  @param {import('../app.js').App} app */
  constructor(element, app) {
    this.app = app;
    this.element = element;
    this.store = new RoomStore(app);
    this.store.looking = () => !element.hidden && !document.hidden && document.hasFocus();
    this.list = make('ul', { class: 'room-list', id: 'room-list' });
    const make1 = make('button', { type: 'button', class: 'plain small', id: 'new-channel' }, 'New',
      make('span', { class: 'unseen' }, ' room'));
    make1.addEventListener('click', () => this.#make());
    this.talk = make('section', { class: 'room', id: 'room' });
    element.append(make('h1', { tabindex: '-1' }, 'Rooms'),
      make('div', { class: 'rooms-columns' },
        make('nav', { class: 'room-nav', 'aria-label': 'Rooms' },
          make('div', { class: 'panel-head' }, make('h2', {}, 'Rooms'), make1), this.list),
        this.talk));
    this.store.addEventListener('list', () => {
      this.#showList();
      this.#showRoom();
    });
    this.store.addEventListener('change', (/** @type {any} */ { detail }) => {
      if (detail.room === this.store.open) this.#shown?.update();
    });
    window.addEventListener('focus', this.#seen);
    document.addEventListener('visibilitychange', this.#seen);
  }

  stop() {
    window.removeEventListener('focus', this.#seen);
    document.removeEventListener('visibilitychange', this.#seen);
    this.#shown?.stop();
    this.store.stop();
  }

  #seen = () => { if (this.store.looking()) this.store.seen(this.store.open); };

  /** @param {string} room as the address names it */
  async open(room) {
    if (!this.#loaded) {
      await this.store.load();
      this.#loaded = true;
    }
    this.element.classList.toggle('has-room', room !== '');
    const wide = matchMedia('(min-width: 52rem)').matches;
    const wanted = room || (wide ? this.store.sorted()[0]?.[0] ?? '' : '');
    if (wanted !== this.store.open || !this.#shown) this.#select(wanted);
    this.#seen();
    this.#showList();
  }

  /** @param {string} room */
  #select(room) {
    this.#shown?.stop();
    this.#shown = null;
    this.store.open = room;
    const state = this.store.rooms.get(room);
    this.app.title(state ? `${state.channel.name} · Rooms` : 'Rooms');
    if (!state) {
      this.talk.replaceChildren(...(room ? [emptyState('This room is not there',
        'It was deleted, or you may not enter it any more.')]
        : this.store.rooms.size ? [] // a narrow screen shows their list alone
          : [emptyState('No rooms yet', 'Make one, and add others by their address.')]));
      return;
    }
    this.#shown = new Conversation(this.talk, this.app, this.store, room, () => this.#reload());
    this.store.seen(room);
  }

  /** Names, rights or channels have changed by an act of this page. */
  async #reload() {
    await this.store.load();
    if (!this.store.rooms.has(this.store.open)) this.app.go('rooms');
    else this.#shown?.channelChanged();
  }

  async #make() {
    const channel = await newChannel(this.app);
    if (!channel) return;
    await this.store.load();
    this.app.go(`rooms/${encodeURIComponent(`channel:${channel.id}`)}`);
  }

  #showRoom() {
    if (this.#shown && !this.store.rooms.has(this.store.open)) this.#select(this.store.open); // is gone
    else this.#shown?.stateChanged();
  }

  #showList() {
    const rooms = this.store.sorted();
    if (this.#loaded && !rooms.length) {
      update(this.list, [make('li', { class: 'hint' }, 'None yet')]);
      return;
    }
    update(this.list, rooms.map(([room, { channel, unread }]) => {
      const link = make('a', { href: `#/rooms/${encodeURIComponent(room)}` },
        make('span', { class: 'room-name' }, channel.name));
      if (room === this.store.open) link.setAttribute('aria-current', 'page');
      if (unread) {
        link.append(make('span', { class: 'unread' }, unread > 99 ? '99+' : String(unread),
          make('span', { class: 'unseen' }, ' unread')));
      }
      if (!this.store.joined(room)) link.classList.add('is-outside');
      return make('li', { 'data-key': room }, link);
    }));
  }
}
