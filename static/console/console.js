/** For developers: the connection, its frames, and a way to send. */

import { byId, duration, fromMarkup, make, setText } from '../dom.js';
import { markField, onSubmit, resetForm } from '../forms.js';
import { reasonText } from '../words.js';
import { Credentials } from './credentials.js';
import { FrameList } from './frames.js';
import { Machine } from './machine.js';
import { MARKUP } from './markup.js';
import { RoundTrips } from './round-trips.js';

const SHOWN_ROOMS = 3;

/** What the composer offers.  @type {Record<string, (room: string) => any>} */
const SAMPLES = {
  heartbeat: () => '',
  'join-channels': () => '',
  join: (room) => ({ room }),
  leave: (room) => ({ room }),
  message: (room) => ({ room, data: { text: 'Hello' } }),
  typing: (room) => ({ room }),
  presence: (room) => ({ room }),
  usage: () => ({ model: 'small' }),
  history: (room) => ({ room }),
};

/** @param {HTMLElement} element  @param {import('../app.js').App} app */
export function mount(element, app) {
  element.append(fromMarkup(MARKUP));
  const view = new Console(app);
  return { open: () => view.open(), unmount: () => view.stop() };
}

class Console {
  #expiresAt = 0;
  #sample = '';

  #ended = new AbortController(); // takes the listeners away

  /** @param {import('../app.js').App} app */
  constructor(app) {
    this.client = app.client;
    const { signal } = this.#ended;
    const frames = new FrameList();
    const trips = new RoundTrips(byId('round-trips'));
    for (const frame of app.frames) {
      frames.add(frame);
      trips.add(frame, frame.at.getTime()); // of before: only this clock was noted
    }
    trips.goOn();
    this.machine = new Machine(byId('machine-place'));
    this.credentials = new Credentials(app);
    this.client.addEventListener('state', () => this.#showState(), { signal });
    this.client.addEventListener('frame', (/** @type {any} */ { detail }) => {
      frames.add({ ...detail, at: new Date() });
      trips.add(detail, performance.now());
    }, { signal });
    this.timer = setInterval(() => this.#tick(), 1000);
    byId('events').append(...Object.keys(SAMPLES).map((value) => make('option', { value })));
    byId('toggle-socket').addEventListener('click', () => this.#toggle());
    this.#wireComposer();
    this.#showState();
  }

  open() { this.credentials.showOwn(); }

  stop() {
    clearInterval(this.timer);
    this.credentials.stop();
    this.#ended.abort();
  }

  #toggle() {
    if (this.client.state.name === 'idle' || this.client.state.name === 'closed') {
      this.client.connect();
    } else this.client.close();
  }

  #showState() {
    const { state, session } = this.client;
    this.machine.show(state);
    setText(byId('toggle-socket'),
      state.name === 'idle' || state.name === 'closed' ? 'Connect' : 'Disconnect');
    const detail = byId('state-detail');
    detail.hidden = !('reason' in state);
    setText(detail, 'reason' in state ? reasonText(state) : '');
    if (session) this.#showSession(session);
    else setText(byId('fact-session'), '–');
    this.#tick();
  }

  /** @param {import('../usher-types.js').Session} session */
  #showSession({ session_id, user, rooms, expires_at }) {
    setText(byId('fact-user'), user.name);
    setText(byId('fact-role'), user.role);
    setText(byId('fact-session'), session_id);
    this.#showRooms(rooms);
    if (expires_at === this.#expiresAt) return;
    if (this.#expiresAt) this.credentials.showOwn(); // another token
    this.#expiresAt = expires_at;
    byId('expires-bar').max = Math.max(1, this.client.expiresIn ?? 1);
  }

  /** The first rooms, and the others folded: there may be a thousand.  @param {string[]} rooms */
  #showRooms(rooms) {
    const more = rooms.slice(SHOWN_ROOMS);
    setText(byId('first-rooms'), rooms.slice(0, SHOWN_ROOMS).join(', ') || 'none');
    const fold = byId('more-rooms');
    fold.hidden = !more.length;
    setText(fold.children[0], more.length ? `and ${more.length} more` : '');
    setText(fold.children[1], more.join(', '));
  }

  /** Once a second: what counts down. */
  #tick() {
    const { expiresIn } = this.client;
    setText(byId('fact-expires'), expiresIn === null ? '–' : duration(expiresIn));
    byId('expires-bar').value = Math.max(0, expiresIn ?? 0);
  }

  #wireComposer() {
    const { event, data } = byId('composer').elements;
    event.addEventListener('change', () => {
      if (data.value !== this.#sample) return; // somebody's own words are left alone
      const room = `user:${this.client.session?.user.id ?? ''}`;
      const sample = SAMPLES[event.value]?.(room);
      this.#sample = data.value = sample ? JSON.stringify(sample) : '';
    });
    data.addEventListener('keydown', (/** @type {KeyboardEvent} */ pressed) => {
      if (pressed.key === 'Enter' && (pressed.ctrlKey || pressed.metaKey)) {
        byId('composer').requestSubmit();
      }
    });
    onSubmit(byId('composer'), (values) => this.#send(values), (problem) => {
      this.#showReply(false, problem.code ?? 'error', problem.message);
    });
  }

  /** @param {{event: string, data: string, reply?: string}} values */
  async #send({ event, data, reply }) {
    let parsed;
    try {
      parsed = data.trim() ? JSON.parse(data) : undefined;
    } catch (error) {
      markField(byId('data'), `This is not JSON: ${/** @type {Error} */ (error).message}`);
      byId('data').focus();
      return;
    }
    if (reply) this.#showReply(true, `Reply to ${event}`, await this.client.request(event, parsed));
    else {
      this.client.send(event, parsed);
      this.#showReply(true, `Sent ${event}`);
    }
  }

  /** @param {boolean} ok  @param {string} title  @param {any} [content] */
  #showReply(ok, title, content) {
    const text = typeof content === 'string' ? content : JSON.stringify(content, null, 2);
    byId('reply').dataset.ok = String(ok);
    byId('reply').replaceChildren(make('p', {}, title), ...(text ? [make('pre', {}, text)] : []));
  }
}
