/** Brings lists up to date in place.
 *
 * A browser fires `click` on what was there at mousedown and at mouseup. A list that is built anew in
 * between loses the press, and the focus and the selected text with it. So what stays is kept.
 */

/** Set on an element for as long as its act runs, by the act. */
const RUNNING = 'aria-disabled';

/** By what an element is found again: `data-key`, its id, where a link leads, what a button says. A
 *  button that says something else is another one: who pressed the first has not meant the second.
 *  @param {Node} node  @returns {string} '' for one that is known by its place alone */
function keyOf(node) {
  if (!(node instanceof Element)) return '';
  return node.getAttribute('data-key') || node.id || node.getAttribute('href')
    || (node.localName === 'button' && node.textContent) || '';
}

/** Makes the children of `parent` those that are given. One that is there already, by its key or, for
 *  want of one, by its place, is kept and gets the attributes, the children and `onclick` and
 *  `onchange` of the new one, which is thrown away. Handlers of what is given here have to be these
 *  two: listeners would be those of the first one for ever.
 *  @param {Element} parent  @param {Node[]} nodes
 *  @param {HTMLElement} [otherwise] has the focus next, if what had it is gone */
export function update(parent, nodes, otherwise) {
  const focused = parent.contains(document.activeElement);
  renewChildren(parent, nodes);
  if (focused && !parent.contains(document.activeElement)) otherwise?.focus();
}

/** @param {Element} parent  @param {Node[]} nodes */
function renewChildren(parent, nodes) {
  const before = [...parent.childNodes];
  const keyed = new Map(before.map((node) => [keyOf(node), node]));
  const loose = before.filter((node) => !keyOf(node));
  keyed.delete('');

  /** @param {Node} made  @returns {Node} */
  function keptOf(made) {
    const key = keyOf(made);
    const place = loose.findIndex(({ nodeName }) => nodeName === made.nodeName);
    const kept = key ? keyed.get(key) : loose[place];
    if (kept?.nodeName !== made.nodeName) return made;
    if (key) keyed.delete(key);
    else loose.splice(0, place + 1);
    renew(kept, made);
    return kept;
  }

  const wanted = nodes.map(keptOf);
  const stay = new Set(wanted);
  for (const node of before) if (!stay.has(node)) /** @type {ChildNode} */ (node).remove();
  arrange(parent, wanted);
}

/** Puts them in order, around the one that is pressed or has the focus: a move would end both.
 *  @param {Element} parent  @param {Node[]} wanted */
function arrange(parent, wanted) {
  const found = [':active', ':focus-within'].map((state) => (
    wanted.findIndex((node) => node instanceof Element && node.matches(state))));
  const fixed = found.find((place) => place >= 0) ?? 0;
  if (wanted.length && wanted[fixed].parentNode !== parent) parent.prepend(wanted[fixed]);
  for (let place = fixed - 1; place >= 0; place -= 1) {
    const next = wanted[place + 1];
    if (next.previousSibling !== wanted[place]) parent.insertBefore(wanted[place], next);
  }
  for (let place = fixed + 1; place < wanted.length; place += 1) {
    const next = wanted[place - 1].nextSibling;
    if (next !== wanted[place]) parent.insertBefore(wanted[place], next);
  }
}

/** @param {any} kept  @param {any} made of the same name */
function renew(kept, made) {
  if (!(kept instanceof Element)) {
    if (kept.data !== made.data) kept.data = made.data;
    return;
  }
  for (const { name, value } of made.attributes) {
    if (kept.getAttribute(name) !== value) kept.setAttribute(name, value);
  }
  for (const { name } of [...kept.attributes]) {
    if (!made.hasAttribute(name) && name !== RUNNING) kept.removeAttribute(name);
  }
  renewChildren(kept, [...made.childNodes]);
  const element = /** @type {any} */ (kept);
  element.onclick = made.onclick;
  element.onchange = made.onchange;
  if (kept instanceof HTMLSelectElement && kept.value !== made.value) kept.value = made.value;
}
