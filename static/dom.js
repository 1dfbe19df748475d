/** Small helpers for the page. Data only ever enters it as text. */

/** @param {string} id  @returns {any} */
export const byId = (id) => document.getElementById(id);

/** @param {string} tag  @param {Record<string, string>} [attributes]
 *  @param {...(Node|string)} children  @returns {any} */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Parses markup that is written in a module. Never for data: that enters as text (`make`).
 *  @param {string} markup  @returns {DocumentFragment} */
export function fromMarkup(markup) {
  const template = document.createElement('template');
  template.innerHTML = markup;
  return template.content;
}

/** Sets text only where it differs, so that live regions and selections are left in peace.
 *  @param {Element} element  @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {number} seconds  @returns {string} */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, '0')} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** @param {number} epoch seconds  @returns {string} */
export function ago(epoch) {
  const seconds = Date.now() / 1000 - epoch;
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(epoch * 1000).toLocaleDateString(undefined, { dateStyle: 'medium' });
}

/** @param {number} epoch seconds  @returns {HTMLTimeElement} */
export function timeElement(epoch) {
  const date = new Date(epoch * 1000);
  return make('time', { datetime: date.toISOString(), title: date.toLocaleString() }, ago(epoch));
}

/** For what is asked for again while an answer is on its way: answers may overtake each other.
 *  @returns {() => () => boolean} to be called before asking; it gives what tells afterwards
 *    whether the answer may be shown: not once one that was asked for later has been */
export function inOrder() {
  let asked = 0;
  let shown = 0;
  return () => {
    const turn = ++asked;
    return () => {
      if (turn < shown) return false;
      shown = turn;
      return true;
    };
  };
}
