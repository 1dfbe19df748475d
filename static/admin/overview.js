/** Overview: what all nodes do now, and did in the last 15 minutes. */

import { make, setText } from '../dom.js';
import { update } from '../update.js';
import { head, table } from './parts.js';
import { Plot } from './plots.js';

const POLL_MS = 2500;
const PLACES = 180;
const MINUTE = 12; // steps
const MAX_ROWS = 50;
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const count = (/** @type {number} */ value) => whole.format(value);

/** @param {number|null} seconds  @returns {string} */
export function latency(seconds) {
  if (seconds === null) return '–';
  const ms = seconds * 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${seconds.toFixed(1)} s`;
}

/** The sum of all nodes, step by step; nodes that are younger have fewer steps.
 *  @param {number[][]} series  @returns {number[]} */
export function summed(series) {
  const length = Math.max(0, ...series.map((one) => one.length));
  return Array.from({ length }, (_, place) => series.reduce((sum, one) => (
    sum + (one[place - length + one.length] ?? 0)), 0));
}

/** What a minute up to each step has.  @param {number[]} steps  @returns {number[]} */
export function perMinute(steps) {
  let sum = 0;
  return steps.map((value, place) => {
    sum += value - (steps[place - MINUTE] ?? 0);
    return sum;
  });
}

/** The largest of all nodes in each step; null where none has one.
 *  @param {(number|null)[][]} series  @returns {(number|null)[]} */
export function largest(series) {
  const length = Math.max(0, ...series.map((one) => one.length));
  return Array.from({ length }, (_, place) => {
    const known = series.map((one) => one[place - length + one.length] ?? null)
      .filter((value) => value !== null);
    return known.length ? Math.max(...known) : null;
  });
}

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context */
export async function show(place, { app, calls, signal }) {
  const how = { places: PLACES, least: 5, format: count };
  const plots = {
    sockets: new Plot('Open sockets', { ...how, lines: ['all nodes'] }),
    joins: new Plot('Joins a minute', { ...how, lines: ['all nodes'] }),
    messages: new Plot('Messages a minute', { ...how, lines: ['all nodes'] }),
    cuts: new Plot('Logout to close', { places: PLACES, least: 0.01, format: latency,
      lines: ['p50', 'p99'], dots: true }),
  };
  const totals = make('dl', { class: 'admin-totals' });
  const note = make('p', { class: 'hint', role: 'status' });
  const nodes = table(['Node', 'Sockets', 'Rooms', 'Joins / min', 'Messages / min',
    'Close p50', 'Close p99'], 'Nodes');
  /** @type {Map<string, Plot>} */ const small = new Map();
  const byNode = make('div', { class: 'admin-plots' });
  place.append(head('Overview'), note,
    make('div', { class: 'admin-plots' }, ...Object.values(plots).map(({ element }) => element)),
    totals, make('section', { class: 'part' }, make('h3', {}, 'Nodes'), nodes.element, byNode));

  /** @param {any} seen */
  function draw(seen) {
    const of = (/** @type {string} */ name) => seen.nodes.map((/** @type {any} */ n) => n.series[name]);
    plots.sockets.draw([[...summed(of('sockets')), seen.sockets]], count(seen.sockets));
    plots.joins.draw([perMinute(summed(of('joins')))], count(seen.joins_per_minute));
    plots.messages.draw([perMinute(summed(of('messages')))], count(seen.messages_per_minute));
    plots.cuts.draw([largest(of('revocation_p50')), largest(of('revocation_p99'))],
      latency(seen.revocation_p50), seen.revocation_p50 === null ? 'no logout with an open socket'
        : `median; 99 of 100 within ${latency(seen.revocation_p99)}`);
    update(totals, [['Users', seen.users], ['Login sessions', seen.sessions],
      ['Rooms', seen.rooms], ['Nodes', seen.nodes.length]].map(([title, value]) => (
      make('div', {}, make('dt', {}, title), make('dd', {}, count(value))))));
    setText(note, seen.complete ? '' : 'Not complete: Redis or a node does not answer. The figures '
      + 'are those of the nodes below.');
    drawNodes(seen.nodes);
  }

  /** @param {any[]} all */
  function drawNodes(all) {
    update(nodes.body, all.slice(0, MAX_ROWS).map((n) => make('tr', { 'data-key': n.node },
      make('th', { scope: 'row' }, make('code', {}, n.node),
        ...(n.answered_here ? [' ', make('span', { class: 'tag quiet' }, 'this page')] : [])),
      ...[count(n.sockets), count(n.rooms), count(n.joins_per_minute), count(n.messages_per_minute),
        latency(n.revocation_p50), latency(n.revocation_p99)].map((text) => (
        make('td', {}, text))))));
    byNode.hidden = all.length < 2;
    if (byNode.hidden) return;
    for (const n of all.slice(0, MAX_ROWS)) {
      const plot = small.get(n.node) ?? new Plot(`Sockets on ${n.node}`, { ...how, lines: [n.node] });
      small.set(n.node, plot);
      plot.draw([[...n.series.sockets, n.sockets]], count(n.sockets));
      if (!plot.element.isConnected) byNode.append(plot.element);
    }
    for (const [name, plot] of small) {
      if (all.some(({ node }) => node === name)) continue;
      plot.element.remove();
      small.delete(name);
    }
  }

  async function refresh() {
    if (document.hidden || !place.checkVisibility()) return;
    try {
      const seen = await calls.overview();
      if (!signal.aborted) draw(seen);
    } catch (problem) {
      const { signedOut, message } = /** @type {any} */ (problem);
      if (signal.aborted) return;
      if (signedOut) return app.ended();
      setText(note, `Not up to date. ${message}`);
    }
  }

  draw(await calls.overview());
  let timer = 0;
  const turn = async () => {
    await refresh();
    if (!signal.aborted) timer = setTimeout(turn, POLL_MS);
  };
  timer = setTimeout(turn, POLL_MS);
  signal.addEventListener('abort', () => clearTimeout(timer));
}
