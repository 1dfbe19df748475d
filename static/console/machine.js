/** The state machine of the connection, drawn: where it is, and which way it came. */

import { fromMarkup, make, setText } from '../dom.js';

/** @typedef {import('../usher-types.js').UsherState} UsherState */

const WIDTH = 96;
const HEIGHT = 34;
/** The middle of each state's box.  @type {Record<string, [number, number]>} */
const STATES = {
  idle: [52, 24], connecting: [180, 24], joined: [308, 24],
  closed: [52, 120], waiting: [180, 120], refreshing: [308, 120],
};
/** Ways that are taken, as usher.js takes them. A line is drawn once for both directions. */
const WAYS = [
  'idle connecting', 'connecting joined', 'connecting waiting', 'connecting closed',
  'joined refreshing', 'joined waiting', 'joined closed',
  'waiting refreshing', 'waiting closed',
];
/** The one that would cross a box goes below it. */
const BELOW = '<path data-way="refreshing closed" d="M308 137Q180 168 52 137"/>';
/** What each state means. */
const MEANING = {
  idle: 'Not asked to connect yet.',
  connecting: 'Gets a ticket, opens the socket, waits for “joined”.',
  joined: 'Open: frames go both ways.',
  refreshing: 'Gets a newer token. A live socket stays open meanwhile.',
  waiting: 'Lost. Tries again after a pause that grows, or when the network is back.',
  closed: 'Ended, for good or until asked to connect again.',
};

export class Machine {
  #last = '';
  #say = make('p', { class: 'quiet', id: 'machine-meaning' });
  /** @type {any} */ #svg;

  /** @param {HTMLElement} place */
  constructor(place) {
    place.append(fromMarkup(DRAWING), this.#say);
    this.#svg = place.querySelector('svg');
  }

  /** @param {UsherState} state */
  show({ name }) {
    if (name === this.#last) return;
    const taken = [`${this.#last} ${name}`, `${name} ${this.#last}`];
    for (const node of this.#svg.querySelectorAll('[data-node]')) {
      node.toggleAttribute('data-here', node.dataset.node === name);
    }
    for (const way of this.#svg.querySelectorAll('[data-way]')) {
      way.toggleAttribute('data-taken', taken.includes(way.dataset.way));
    }
    this.#last = name;
    this.#svg.setAttribute('aria-label', `State machine of the connection: now ${name}`);
    setText(this.#say, `${name}: ${MEANING[name]}`);
  }
}

/** A line between two boxes, from edge to edge.  @param {string} way  @returns {string} */
function line(way) {
  const [[x1, y1], [x2, y2]] = way.split(' ').map((name) => STATES[name]);
  const [dx, dy] = [x2 - x1, y2 - y1];
  // As far from the middle as the box reaches in this direction.
  const reach = Math.min(dx ? WIDTH / 2 / Math.abs(dx) : 1, dy ? HEIGHT / 2 / Math.abs(dy) : 1);
  const at = [x1 + dx * reach, y1 + dy * reach, x2 - dx * reach, y2 - dy * reach].map((n) => n.toFixed(1));
  return `<line data-way="${way}" x1="${at[0]}" y1="${at[1]}" x2="${at[2]}" y2="${at[3]}"/>`;
}

/** @param {[string, [number, number]]} state  @returns {string} */
function box([name, [x, y]]) {
  return `<g data-node="${name}"><rect x="${x - WIDTH / 2}" y="${y - HEIGHT / 2}" width="${WIDTH}"
    height="${HEIGHT}" rx="8"/><text x="${x}" y="${y + 5}">${name}</text></g>`;
}

const DRAWING = `<svg id="machine" viewBox="0 0 360 156" role="img">${WAYS.map(line).join('')}${BELOW}${
  Object.entries(STATES).map(box).join('')}</svg>`;
