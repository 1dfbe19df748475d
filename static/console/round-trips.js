/** How long a heartbeat takes to its reply, as a small plot. */

import { make, setText } from '../dom.js';
import { plot } from '../ui.js';

const KEPT = 60;
const MAX_OPEN = 100;

export class RoundTrips {
  /** @type {Map<any, number>} when each heartbeat went out, by its id */ #sent = new Map();
  /** @type {number[]} milliseconds, oldest first */ #took = [];
  #place;
  #text = make('p', { class: 'quiet', id: 'round-trip' }, 'No heartbeat has been answered yet.');

  /** @param {HTMLElement} place */
  constructor(place) {
    this.#place = place;
    place.append(this.#text);
  }

  /** @param {any} passed a frame  @param {number} now milliseconds of a clock that only goes forward */
  add({ frame: { event, id } }, now) {
    if (event === 'heartbeat' && id !== undefined) {
      if (this.#sent.size < MAX_OPEN) this.#sent.set(id, now);
      return;
    }
    if (event === 'joined') this.#sent.clear(); // another socket counts anew
    const began = this.#sent.get(id);
    if (event !== 'reply' || began === undefined) return;
    this.#sent.delete(id);
    this.#took.push(Math.max(0, now - began));
    if (this.#took.length > KEPT) this.#took.shift();
    this.#show();
  }

  /** From here on another clock is read: what waits for its reply is not counted. */
  goOn() { this.#sent.clear(); }

  #show() {
    const last = this.#took[this.#took.length - 1];
    const sorted = [...this.#took].sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)];
    const text = `${shown(last)} now, ${shown(median)} median, ${shown(sorted[sorted.length - 1])
    } at most, of ${this.#took.length} ${this.#took.length === 1 ? 'heartbeat' : 'heartbeats'}`;
    setText(this.#text, text);
    this.#place.querySelector('.plot')?.remove();
    if (this.#took.length > 1) {
      this.#place.append(plot(this.#took, `Round-trip time: ${text}`, { least: 10 }));
    }
  }
}

/** @param {number} ms  @returns {string} */
const shown = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
