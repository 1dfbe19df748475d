/** What the pages of administration share: titles, lists with pages, searches, and acts. */

import { make, setText, timeElement } from '../dom.js';
import { copyable, dialog, emptyState } from '../ui.js';
import { update } from '../update.js';

const TYPING_MS = 200;
const MAX_IDS = 100; // in one call
let numbers = 0;

/** An id for a field and its label.  @param {string} stem  @returns {string} */
export const newId = (stem) => `admin-${stem}-${++numbers}`;

/** @param {string} text  @param {...(Node|string)} actions  @returns {HTMLElement} */
export function head(text, ...actions) {
  return make('div', { class: 'panel-head' }, make('h2', { tabindex: '-1' }, text),
    ...(actions.length ? [make('div', { class: 'row' }, ...actions)] : []));
}

/** @param {string} text  @param {() => void} act  @param {string} [kind] of button
 *  @param {string} [about] for those who do not see what it is beside
 *  @returns {HTMLButtonElement} */
export function button(text, act, kind = 'plain', about = '') {
  const element = make('button', { type: 'button', class: kind }, text,
    ...(about ? [make('span', { class: 'unseen' }, ` ${about}`)] : []));
  element.onclick = act;
  return element;
}

/** A date that says how long ago, or `otherwise`.  @param {number|null|undefined} epoch
 *  @param {string} [otherwise]  @returns {Node|string} */
export const when = (epoch, otherwise = 'never') => (epoch ? timeElement(epoch) : otherwise);

/** @param {number} epoch seconds, to come  @returns {string} */
export const until = (epoch) => new Date(epoch * 1000)
  .toLocaleDateString(undefined, { dateStyle: 'medium' });

/** Says what is wrong in the place of a page, and lets it be tried again.
 *  @param {HTMLElement} place  @param {import('../app.js').App} app  @param {any} problem
 *  @param {() => void} again */
export function failed(place, app, problem, again) {
  if (problem.signedOut) return app.ended();
  const [title, text] = problem.status === 404 ? ['Not found', 'It may have been deleted.']
    : problem.status === 403 ? ['Not allowed', 'Your account is no administrator any more.']
      : ['This could not be read', problem.message];
  place.replaceChildren(emptyState(title, text, button('Try again', again)));
}

/** Runs an act: what went wrong is said in `error`, or by a note that goes by.
 *  @param {import('../app.js').App} app  @param {() => Promise<void>} act
 *  @param {HTMLElement} [error] */
export async function attempt(app, act, error) {
  if (error) setText(error, '');
  try {
    await act();
  } catch (problem) {
    const { signedOut, code, message } = /** @type {any} */ (problem);
    if (signedOut) return app.ended();
    const text = code === 'step_up_needed' ? 'Nothing was changed: it was not confirmed that it is you.'
      : message;
    if (error) setText(error, text);
    else app.toast(text);
  }
}

/** @returns {HTMLElement} a place for what went wrong */
export const errorPlace = () => make('p', { class: 'form-error', role: 'alert' });

/** A list that is read a page at a time, and begun anew by `load`.
 *  @param {import('./admin.js').Context} context
 *  @param {{read: (after: string|undefined) => Promise<{items: any[], next?: string}>,
 *    list: HTMLElement, row: (item: any) => HTMLElement, empty: () => Node, noun: string}} how
 *  @returns {{element: HTMLElement, load: () => Promise<void>}} */
export function pages({ app, signal }, { read, list, row, empty, noun }) {
  let next = '';
  let turn = 0;
  const none = make('div', {});
  const error = errorPlace();
  const more = button(`Show more ${noun}`, () => attempt(app, () => add(turn), error));
  const frame = list.closest('.scroll-x') ?? list.closest('table') ?? list;
  const element = make('div', { class: 'admin-list' }, frame, none, error, more);
  more.hidden = true;

  /** @param {any} item */
  function keyed(item) {
    const made = row(item);
    if (item.id !== undefined) made.dataset.key = item.id;
    return made;
  }

  /** @param {number} mine */
  async function add(mine) {
    const page = await read(next || undefined);
    if (mine !== turn || signal.aborted) return; // overtaken by another search
    if (next) list.append(...page.items.map(keyed));
    else update(list, page.items.map(keyed));
    const last = !page.next;
    if (last && more === document.activeElement) list.lastElementChild?.querySelector('a, button')?.focus();
    more.hidden = last;
    next = page.next ?? '';
    const nothing = !list.children.length;
    none.replaceChildren(...(nothing ? [empty()] : []));
    /** @type {HTMLElement} */ (frame).hidden = nothing;
  }

  return { element, load: () => { next = ''; return add(++turn); } };
}

/** A field that searches while somebody types.
 *  @param {string} label  @param {string} value  @param {(text: string) => void} search
 *  @returns {HTMLElement} */
export function searchField(label, value, search) {
  const id = newId('search');
  const field = make('input', { id, type: 'search', autocomplete: 'off', spellcheck: 'false', maxlength: '100' });
  field.value = value;
  let timer = 0;
  let sought = value;
  const seek = () => {
    clearTimeout(timer);
    if (field.value.trim() === sought) return;
    sought = field.value.trim();
    search(sought);
  };
  field.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(seek, TYPING_MS); });
  field.addEventListener('change', seek);
  return make('div', { class: 'field admin-search' }, make('label', { for: id }, label), field);
}

/** Keeps a search in the address, so that a reload and the back button have it.
 *  @param {Record<string, string>} members */
export function keepInAddress(members) {
  const [path] = location.hash.split('?');
  const given = new URLSearchParams(Object.entries(members).filter(([, value]) => value));
  history.replaceState(null, '', `${location.pathname}${location.search}${path}${given.size ? `?${given}` : ''}`);
}

/** @param {string[]} titles  @param {string} caption for those who do not see it
 *  @returns {{element: HTMLElement, body: HTMLElement}} */
export function table(titles, caption) {
  const body = make('tbody', {});
  const element = make('div', { class: 'scroll-x', tabindex: '0', role: 'region', 'aria-label': caption },
    make('table', {}, make('thead', {}, make('tr', {},
      ...titles.map((title) => make('th', { scope: 'col' },
        title === 'Acts' ? make('span', { class: 'unseen' }, title) : title)))), body));
  titles.forEach((title, place) => element.style.setProperty(`--title-${place + 1}`, // beside each cell
    title === 'Acts' ? 'none' : `"${title}"`));
  return { element, body };
}

/** Puts names where ids of users are shown, as soon as they are known. An account that is gone
 *  keeps its id.
 *  @param {import('./admin.js').Context} context
 *  @returns {(id: string) => HTMLElement} a link to the user */
export function userLinks({ calls, signal }) {
  /** @type {Map<string, Promise<string|null>>} */ const names = new Map();
  /** @type {Map<string, string>} */ const known = new Map();
  /** @type {Map<string, (name: string|null) => void>} */ let wanted = new Map();

  async function ask() {
    const asked = [...wanted];
    wanted = new Map();
    for (let at = 0; at < asked.length; at += MAX_IDS) {
      const part = asked.slice(at, at + MAX_IDS);
      const { items } = await calls.usersById(part.map(([id]) => id)).catch(() => ({ items: [] }));
      const found = new Map(items.map((/** @type {any} */ { id, name }) => [id, name]));
      for (const [id, tell] of part) tell(found.get(id) ?? null);
    }
  }

  /** @param {string} id */
  function nameOf(id) {
    const asked = names.get(id);
    if (asked) return asked;
    if (!wanted.size) queueMicrotask(ask); // all of a page together
    const name = /** @type {Promise<string|null>} */ (new Promise((tell) => { wanted.set(id, tell); }));
    names.set(id, name);
    return name;
  }

  return (id) => {
    const link = make('a', { href: `#/admin/users/${encodeURIComponent(id)}`, title: id },
      known.get(id) ?? make('code', {}, `${id.slice(0, 8)}…`));
    nameOf(id).then((name) => {
      if (name === null || signal.aborted) return;
      known.set(id, name);
      link.replaceChildren(name);
    });
    return link;
  };
}

/** Something that is shown this once, with a button that copies it.
 *  @param {string} title  @param {string} text  @param {string} secret  @param {string} what */
export function showOnce(title, text, secret, what) {
  const box = dialog(title, make('p', { class: 'hint' }, text), copyable(secret, what),
    make('div', { class: 'actions' }, button('Done', () => box.close(), '')));
  box.classList.add('admin-once');
  box.showModal();
  return box;
}

/** Checkboxes under one name.
 *  @param {string} legend  @param {[string, string][]} choices value and what it means
 *  @param {string[]} [chosen]  @returns {HTMLElement} */
export function choices(legend, choices, chosen = []) {
  return make('fieldset', { class: 'admin-choices' }, make('legend', {}, legend),
    ...choices.map(([value, meaning]) => make('label', { class: 'check' },
      make('input', { type: 'checkbox', name: 'choice', value,
        ...(chosen.includes(value) && { checked: '' }) }),
      make('span', {}, make('code', {}, value), ...(meaning ? [make('span', { class: 'quiet' }, ` ${meaning}`)] : [])))));
}

/** @param {HTMLFormElement} form  @returns {string[]} */
export const chosen = (form) => new FormData(form).getAll('choice').map(String);

/** @param {string} label  @param {Record<string, string>} attributes  @param {string} [hint]
 *  @returns {HTMLElement} */
export function field(label, attributes, hint = '') {
  const id = newId(attributes.name);
  const about = [...(hint ? [`${id}-hint`] : []), `${id}-error`].join(' ');
  return make('div', { class: 'field' }, make('label', { for: id }, label),
    make('input', { id, 'aria-describedby': about, autocomplete: 'off', ...attributes }),
    ...(hint ? [make('p', { class: 'hint', id: `${id}-hint` }, hint)] : []),
    make('p', { class: 'field-error', id: `${id}-error` }));
}

/** @param {string} label  @param {string} name  @param {[string, string][]} options value and text
 *  @returns {HTMLElement} */
export function select(label, name, options) {
  const id = newId(name);
  return make('div', { class: 'field' }, make('label', { for: id }, label),
    make('select', { id, name }, ...options.map(([value, text]) => make('option', { value }, text))));
}
