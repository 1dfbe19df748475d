/** Plots of the last 15 minutes that move: one line or dots, with the scale and the time beside. */

import { make, setText } from '../dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 320;
const HEIGHT = 72;
const NICE = [1, 2, 5, 10];

/** The first round number at or above.  @param {number} value  @returns {number} */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return (NICE.find((step) => step * power >= value * (1 - 1e-9)) ?? 10) * power;
}

/** @param {string} name  @param {Record<string, string>} attributes  @param {...Node} children */
function shape(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A path through the known values; one that stands alone is a dot.
 *  @param {(number|null)[]} values  @param {number} places in the whole width  @param {number} top */
function pathOf(values, places, top) {
  const step = WIDTH / Math.max(1, places - 1);
  const from = places - values.length; // the newest is at the right
  let path = '';
  values.forEach((value, number) => {
    if (value === null) return;
    const at = `${((from + number) * step).toFixed(1)} ${(HEIGHT - 3 - (value / top) * (HEIGHT - 8)).toFixed(1)}`;
    const joined = number > 0 && values[number - 1] !== null;
    path += joined ? `L${at}` : `M${at}h0`;
  });
  return path;
}

export class Plot {
  /** @param {string} title
   *  @param {{places: number, least: number, format: (value: number) => string,
   *    lines: string[], dots?: boolean}} how `lines`: what each line is called, the first one
   *    counts most; `least`: the top of the scale is at least this */
  constructor(title, { places, least, format, lines, dots = false }) {
    Object.assign(this, { title, places, least, format, names: lines });
    this.now = make('strong', { class: 'admin-now' }, '–');
    this.beside = make('span', { class: 'quiet' });
    const keys = lines.length < 2 ? [] : lines.map((name, number) => (
      make('span', { class: `admin-key${number ? ' second' : ''}` }, name)));
    this.top = make('span', {});
    this.paths = lines.map((_, number) => shape('path', {
      class: number ? 'second' : '', 'vector-effect': 'non-scaling-stroke' }));
    this.svg = shape('svg', { class: `admin-plot${dots ? ' dots' : ''}`, role: 'img',
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none' },
    shape('path', { class: 'scale', d: `M0 5h${WIDTH}M0 ${HEIGHT - 3}h${WIDTH}`,
      'vector-effect': 'non-scaling-stroke' }), ...this.paths.toReversed());
    this.element = make('figure', { class: 'admin-figure' },
      make('figcaption', {}, make('span', { class: 'admin-name' }, title, ...keys), this.now, this.beside),
      this.svg,
      make('p', { class: 'admin-axis', 'aria-hidden': 'true' }, make('span', {}, '15 min ago'), this.top,
        make('span', {}, 'now')));
  }

  /** @param {(number|null)[][]} series one for each line, oldest first
   *  @param {string} now  @param {string} [beside] */
  draw(series, now, beside = '') {
    const known = series.flat().filter((value) => value !== null);
    const most = Math.max(0, ...known);
    const top = roundUp(Math.max(this.least, most));
    this.paths.forEach((path, number) => path.setAttribute('d', pathOf(series[number], this.places, top)));
    setText(this.now, now);
    setText(this.beside, beside);
    setText(this.top, `0 to ${this.format(top)}`);
    this.svg.setAttribute('aria-label', `${this.title} in the last 15 minutes: now ${now}`
      + (known.length ? `, at most ${this.format(most)}` : ''));
  }
}
