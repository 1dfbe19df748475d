/** Small parts that the areas share: dialogs, questions, notes that go by, empty lists, plots. */

import { byId, make } from './dom.js';

const TOAST_MS = 6000;
const MAX_TOASTS = 3;
const SVG = 'http://www.w3.org/2000/svg';

/** A note that goes by itself, and is read out. For what was done; errors stay where they arose.
 *  @param {string} text */
export function toast(text) {
  const list = byId('toasts');
  const note = make('p', { class: 'toast' }, text);
  list.append(note);
  while (list.children.length > MAX_TOASTS) list.firstElementChild.remove();
  setTimeout(() => note.remove(), TOAST_MS);
}

/** A dialog over the page, removed when it closes. Escape closes it; the focus goes back.
 *  @param {string} title  @param {...(Node|string)} content
 *  @returns {HTMLDialogElement} open it with `showModal()` */
export function dialog(title, ...content) {
  const id = `dialog-${Math.random().toString(36).slice(2)}`;
  const element = make('dialog', { 'aria-labelledby': id },
    make('h2', { id }, title), ...content);
  element.addEventListener('close', () => element.remove());
  document.body.append(element);
  return element;
}

/** Asks before something that cannot be taken back.
 *  @param {{title: string, text?: string, yes: string, no?: string, danger?: boolean}} question
 *  @returns {Promise<boolean>} */
export function ask({ title, text = '', yes, no = 'Cancel', danger = false }) {
  const go = make('button', { type: 'button', ...(danger && { class: 'danger' }) }, yes);
  const stay = make('button', { type: 'button', class: 'plain' }, no);
  const box = dialog(title, ...(text ? [make('p', { class: 'hint' }, text)] : []),
    make('div', { class: 'actions' }, go, stay));
  return new Promise((resolve) => {
    let answer = false;
    go.addEventListener('click', () => { answer = true; box.close(); });
    stay.addEventListener('click', () => box.close());
    box.addEventListener('close', () => resolve(answer));
    box.showModal();
    stay.focus();
  });
}

/** What a list shows that has nothing in it.
 *  @param {string} title  @param {string} text  @param {...Node} actions  @returns {HTMLElement} */
export function emptyState(title, text, ...actions) {
  return make('div', { class: 'empty' }, make('h2', {}, title), make('p', {}, text),
    ...(actions.length ? [make('div', { class: 'actions' }, ...actions)] : []));
}

/** A button that copies a text.  @param {string} text  @param {string} [what] for who cannot see
 *  what it stands beside  @returns {HTMLElement} */
export function copyButton(text, what = '') {
  const button = make('button', { type: 'button', class: 'plain small' }, 'Copy',
    ...(what ? [make('span', { class: 'unseen' }, ` ${what}`)] : []));
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast('Copied');
    } catch {
      toast('The browser did not allow copying. Select the text instead.');
    }
  });
  return button;
}

/** A piece of text with a button that copies it.  @param {string} text  @param {string} [what]
 *  @returns {HTMLElement} */
export const copyable = (text, what = '') => (
  make('div', { class: 'copyable' }, make('code', {}, text), copyButton(text, what)));

/** A line of numbers as a small plot. Its text says the same to those who do not see it.
 *  @param {(number|null)[]} values  null: not known then
 *  @param {string} label read out in its place
 *  @param {{width?: number, height?: number, least?: number}} [options] `least`: the top of the
 *    scale is at least this, so that noise around nothing stays flat  @returns {SVGElement} */
export function plot(values, label, { width = 240, height = 48, least = 1 } = {}) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(least, ...known);
  const step = values.length > 1 ? width / (values.length - 1) : width;
  let path = '';
  let pen = 'M';
  values.forEach((value, place) => {
    if (value === null) {
      pen = 'M';
      return;
    }
    const y = height - 2 - (value / top) * (height - 4);
    path += `${pen}${(place * step).toFixed(1)} ${y.toFixed(1)}`;
    pen = 'L';
  });
  const svg = document.createElementNS(SVG, 'svg');
  for (const [name, value] of Object.entries({ class: 'plot', viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: 'none', role: 'img', 'aria-label': label })) svg.setAttribute(name, value);
  const line = document.createElementNS(SVG, 'path');
  line.setAttribute('d', path);
  line.setAttribute('vector-effect', 'non-scaling-stroke');
  svg.append(line);
  return svg;
}
