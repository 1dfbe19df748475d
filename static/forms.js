/** Forms: checks before sending, one submission at a time, errors where they belong. */

import { byId, make, setText } from './dom.js';

/** @param {HTMLInputElement} field  @returns {string} */
function complaint({ validity, value, minLength }) {
  if (validity.valueMissing) return 'Please fill this in.';
  if (validity.typeMismatch) return 'This does not look like an e-mail address.';
  // `tooShort` is only set by typing; a password manager fills in silently.
  if (minLength > 0 && [...value].length < minLength) return `At least ${minLength} characters.`;
  return '';
}

/** @param {HTMLElement} field  @param {...(Node|string)} message none: takes the error back */
export function markField(field, ...message) {
  const wrong = message.length > 0;
  if (wrong) field.setAttribute('aria-invalid', 'true');
  else field.removeAttribute('aria-invalid');
  byId(`${field.id}-error`)?.replaceChildren(...message);
}

/** Shows what would make the password better, at the field.
 *  @param {HTMLElement} field  @param {import('./api.js').Problem} problem */
export function markWeakPassword(field, problem) {
  const { warning, suggestions = [] } = problem.body;
  const advice = suggestions.map((/** @type {string} */ text) => make('li', {}, text));
  markField(field, make('p', {}, warning || problem.message),
    ...(advice.length ? [make('ul', {}, ...advice)] : []));
}

/** @param {HTMLFormElement} form
 *  @returns {HTMLInputElement[]} */
const fieldsOf = (form) => /** @type {any} */ (
  [...form.querySelectorAll('input[id], textarea[id]')]);

/** @param {HTMLFormElement} form  @returns {boolean} */
function check(form) {
  const fields = fieldsOf(form);
  for (const field of fields) {
    const text = complaint(field);
    markField(field, ...(text ? [text] : []));
  }
  const wrong = fields.find((field) => field.hasAttribute('aria-invalid'));
  wrong?.focus();
  return !wrong;
}

/** @param {HTMLFormElement} form  @param {string} text */
export function showFormError(form, text) {
  setText(/** @type {Element} */ (form.querySelector('.form-error')), text);
}

/** Empties a form, passwords first of all.  @param {HTMLFormElement} form */
export function resetForm(form) {
  form.reset();
  for (const field of fieldsOf(form)) markField(field);
  for (const note of form.querySelectorAll('.form-error, .form-done')) setText(note, '');
  for (const button of form.querySelectorAll('.reveal[aria-pressed=true]')) {
    /** @type {HTMLElement} */ (button).click();
  }
}

/** @param {HTMLFormElement} form  @param {(values: any) => Promise<void>} send
 *  @param {(problem: any) => void} fail shows what `send` rejected with */
export function onSubmit(form, send, fail) {
  const button = /** @type {HTMLElement} */ (form.querySelector('[type=submit]'));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (button.getAttribute('aria-disabled') === 'true') return;
    for (const note of form.querySelectorAll('.form-error, .form-done')) setText(note, '');
    if (!check(form)) return;
    button.setAttribute('aria-disabled', 'true'); // not `disabled`: that would lose the focus
    try {
      await send(Object.fromEntries(new FormData(form)));
    } catch (problem) {
      fail(problem);
    } finally {
      button.removeAttribute('aria-disabled');
    }
  });
  for (const field of fieldsOf(form)) field.addEventListener('input', () => markField(field));
}

/** Lets every password be looked at: typing blind makes people choose short ones.
 *  @param {ParentNode} [within] */
export function wireRevealButtons(within = document) {
  for (const button of within.querySelectorAll('.reveal')) {
    const field = byId(button.getAttribute('aria-controls') ?? '');
    button.addEventListener('click', () => {
      const shown = button.getAttribute('aria-pressed') !== 'true';
      button.setAttribute('aria-pressed', String(shown));
      field.type = shown ? 'text' : 'password';
    });
  }
}
