/** For developers: the connection, its frames, and a way to send. */

import { byId, duration, fromMarkup, make, setText } from '../dom.js';
import { markField, onSubmit, resetForm } from '../forms.js';
import { reasonText } from '../words.js';
import { MARKUP } from './markup.js';

const MAX_FRAMES = 100;
const MAX_FRAME_TEXT = 600;

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
  return { unmount: () => view.stop() };
}

class Console {
  /** @type {Set<number>} ids of heartbeats whose replies are still to come */ #beats = new Set();
  #expiresAt = 0;
  #sample = '';

  #ended = new AbortController(); // takes the listeners away

  /** @param {import('../app.js').App} app */
  constructor(app) {
    this.client = app.client;
    const { signal } = this.#ended;
    this.client.addEventListener('state', () => this.#showState(), { signal });
    this.client.addEventListener('frame', (/** @type {any} */ { detail }) => (
      this.#addFrame({ ...detail, at: new Date() })), { signal });
    this.timer = setInterval(() => this.#tick(), 1000);
    byId('events').append(...Object.keys(SAMPLES).map((value) => make('option', { value })));
    byId('toggle-socket').addEventListener('click', () => this.#toggle());
    byId('clear-frames').addEventListener('click', () => this.#clearFrames());
    byId('show-heartbeats').addEventListener('change', (/** @type {any} */ { target }) => {
      byId('frames').classList.toggle('no-heartbeats', !target.checked);
    });
    this.#wireComposer();
    this.#clearFrames();
    for (const frame of app.frames) this.#addFrame(frame);
    this.#showState();
  }

  stop() {
    clearInterval(this.timer);
    this.#ended.abort();
  }

  #toggle() {
    if (this.client.state.name === 'idle' || this.client.state.name === 'closed') {
      this.client.connect();
    } else this.client.close();
  }

  #showState() {
    const { state, session } = this.client;
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
    setText(byId('fact-rooms'), rooms.join(', ') || 'none');
    if (expires_at === this.#expiresAt) return;
    this.#expiresAt = expires_at;
    byId('expires-bar').max = Math.max(1, this.client.expiresIn ?? 1);
  }

  /** Once a second: what counts down. */
  #tick() {
    const { expiresIn } = this.client;
    setText(byId('fact-expires'), expiresIn === null ? '–' : duration(expiresIn));
    byId('expires-bar').value = Math.max(0, expiresIn ?? 0);
  }

  #clearFrames() {
    this.#beats.clear();
    byId('frames').replaceChildren();
    setText(byId('frames-note'), 'Every frame shows up here, newest first.');
  }

  /** @param {import('../app.js').PassedFrame} passed */
  #addFrame({ direction, frame, size, at }) {
    const { event, ...rest } = frame;
    const beat = event === 'heartbeat' || (event === 'reply' && this.#beats.delete(frame.id));
    if (event === 'heartbeat' && this.#beats.size < MAX_FRAMES) this.#beats.add(frame.id);
    const text = JSON.stringify(rest);
    const list = byId('frames');
    list.prepend(make('li', beat ? { class: 'is-heartbeat' } : {},
      make('span', { class: 'way' }, direction === 'out' ? '↑ sent' : '↓ received'),
      make('span', { class: 'name' }, event),
      make('span', { class: 'meta' }, `${size} B · ${at.toLocaleTimeString()}`),
      make('span', { class: 'code' },
        text.length > MAX_FRAME_TEXT ? `${text.slice(0, MAX_FRAME_TEXT)} …` : text)));
    while (list.children.length > MAX_FRAMES) list.lastElementChild.remove();
    setText(byId('frames-note'), '');
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
