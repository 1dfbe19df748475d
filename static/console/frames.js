/** The frames that passed, newest first: found by words and direction, held still, opened, copied. */

import { byId, make, setText } from '../dom.js';
import { server } from '../here.js';
import { toast } from '../ui.js';
import { LANGUAGES, snippet } from './snippets.js';

/** @typedef {import('../app.js').PassedFrame} PassedFrame
 *  @typedef {{element: HTMLElement, direction: string, words: string}} Line */

const MAX_FRAMES = 100;
const MAX_FRAME_TEXT = 600;

export class FrameList {
  /** @type {Set<number>} ids of heartbeats whose replies are still to come */ #beats = new Set();
  /** @type {Line[]} oldest first */ #lines = [];
  /** @type {PassedFrame[]|null} what came since the list was paused */ #held = null;

  constructor() {
    byId('clear-frames').addEventListener('click', () => this.clear());
    byId('pause-frames').addEventListener('click', () => this.#pause());
    byId('frames-filter').addEventListener('input', () => this.#filter());
    byId('frames-direction').addEventListener('change', () => this.#filter());
    byId('show-heartbeats').addEventListener('change', (/** @type {any} */ { target }) => {
      byId('frames').classList.toggle('no-heartbeats', !target.checked);
    });
    this.clear();
  }

  clear() {
    this.#beats.clear();
    this.#lines = [];
    if (this.#held) this.#held = [];
    byId('frames').replaceChildren();
    this.#note();
  }

  /** @param {PassedFrame} passed */
  add(passed) {
    if (!this.#held) {
      this.#show(passed);
      return this.#note();
    }
    this.#held.push(passed);
    if (this.#held.length > MAX_FRAMES) this.#held.shift();
    this.#note();
  }

  #pause() {
    const held = this.#held;
    this.#held = held ? null : [];
    byId('pause-frames').setAttribute('aria-pressed', String(!held));
    held?.forEach((passed) => this.#show(passed));
    this.#note();
  }

  /** @param {PassedFrame} passed */
  #show(passed) {
    const { direction, frame } = passed;
    const words = `${frame.event} ${JSON.stringify(frame)}`.toLowerCase();
    const line = { element: frameElement(passed), direction, words };
    if (this.#isHeartbeat(frame)) beatsAtTop().prepend(line.element);
    else byId('frames').prepend(line.element);
    this.#lines.push(line);
    line.element.hidden = !this.#matches(line);
    while (this.#lines.length > MAX_FRAMES) this.#lines.shift()?.element.remove();
    countBeats();
  }

  /** @param {any} frame  @returns {boolean} whether it is a heartbeat, or the reply to one */
  #isHeartbeat({ event, id }) {
    if (event === 'heartbeat') {
      if (this.#beats.size < MAX_FRAMES) this.#beats.add(id);
      return true;
    }
    return event === 'reply' && this.#beats.delete(id);
  }

  /** @param {Line} line */
  #matches({ direction, words }) {
    const wanted = byId('frames-direction').value;
    const text = byId('frames-filter').value.trim().toLowerCase();
    return (!wanted || wanted === direction) && words.includes(text);
  }

  #filter() {
    for (const line of this.#lines) line.element.hidden = !this.#matches(line);
    countBeats();
    this.#note();
  }

  /** What the list does not say by itself: that it is empty, filtered, or held still. */
  #note() {
    const shown = this.#lines.filter(({ element }) => !element.hidden).length;
    const all = this.#lines.length;
    let text = '';
    if (!all) text = 'Every frame shows up here, newest first.';
    else if (shown < all) text = `${shown} of ${all} frames match.`;
    if (this.#held) text += ` Paused: ${this.#held.length} new.`;
    setText(byId('frames-note'), text.trim());
    setText(byId('pause-frames'), this.#held ? 'Resume' : 'Pause');
  }
}

/** The list of heartbeats at the top, or a new one: those that follow each other are one line.
 *  @returns {HTMLElement} */
function beatsAtTop() {
  const first = byId('frames').firstElementChild;
  if (first?.classList.contains('is-heartbeat')) return first.querySelector('ol');
  const list = make('ol');
  byId('frames').prepend(make('li', { class: 'is-heartbeat' },
    make('details', {}, make('summary', { class: 'quiet' }), list)));
  return list;
}

function countBeats() {
  for (const group of byId('frames').querySelectorAll('.is-heartbeat')) {
    const shown = group.querySelectorAll('li:not([hidden])');
    if (!group.querySelector('li')) {
      group.remove();
      continue;
    }
    const sent = [...shown].filter((line) => line.dataset.direction === 'out').length || shown.length;
    setText(group.querySelector('summary'), sent === 1 ? '1 heartbeat' : `${sent} heartbeats`);
    group.hidden = !shown.length;
  }
}

/** @param {PassedFrame} passed  @returns {HTMLElement} */
function frameElement({ direction, frame, size, at }) {
  const { event, ...rest } = frame;
  const text = JSON.stringify(rest);
  const details = make('details', {}, make('summary', {},
    make('span', { class: 'way' }, direction === 'out' ? '↑ sent' : '↓ received'),
    make('span', { class: 'name' }, event),
    make('span', { class: 'meta' }, `${size} B · ${at.toLocaleTimeString()}`),
    make('span', { class: 'code' },
      text.length > MAX_FRAME_TEXT ? `${text.slice(0, MAX_FRAME_TEXT)} …` : text)));
  details.addEventListener('toggle', () => { // most are never opened
    if (details.open && details.children.length === 1) details.append(...whole(direction, frame));
  });
  return make('li', { 'data-direction': direction }, details);
}

/** A frame in full, and ways to have it again.
 *  @param {string} direction  @param {any} frame  @returns {HTMLElement[]} */
function whole(direction, frame) {
  const copy = make('pre', { class: 'snippet' });
  copy.hidden = true;
  const buttons = Object.entries(LANGUAGES).map(([language, title]) => {
    const button = make('button', { type: 'button', class: 'plain small' },
      make('span', { class: 'unseen' }, 'Copy as '), title);
    button.addEventListener('click', async () => {
      const text = snippet(language, direction, frame, server);
      setText(copy, text);
      copy.hidden = false;
      try {
        await navigator.clipboard.writeText(text);
        toast(`Copied as ${title}`);
      } catch {
        toast('The browser did not allow copying. Select the text instead.');
      }
    });
    return button;
  });
  return [
    make('pre', { class: 'whole' }, JSON.stringify(frame, null, 2)),
    make('div', { class: 'row copies' },
      make('span', { class: 'quiet', 'aria-hidden': 'true' }, 'Copy as'), ...buttons),
    copy,
  ];
}
