/** Passkeys of this browser (WebAuthn), in the JSON forms that the server speaks. */

import { make } from './dom.js';
import { keptAs } from './here.js';

const KNOWN = keptAs('usher.passkey');

/** Whether this page can use passkeys: an address of numbers cannot. */
export const canUsePasskeys = () => (
  'parseRequestOptionsFromJSON' in (globalThis.PublicKeyCredential ?? {})
  && !/^[\d.]+$|^\[/.test(location.hostname));

/** A signature of a passkey that the user chooses.
 *  @param {import('./api.js').Api} api  @returns {Promise<object|null>} null: the user chose none */
export async function passkeySignature(api) {
  const { publicKey } = await api.passkeyOptions();
  return credential(() => navigator.credentials.get({
    publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey),
  }));
}

/** A new passkey.
 *  @param {import('./api.js').Api} api  @returns {Promise<object|null>} null: none was made */
export async function newPasskey(api) {
  const { publicKey } = await api.newPasskeyOptions();
  return credential(() => navigator.credentials.create({
    publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey),
  }));
}

/** @param {() => Promise<Credential|null>} ask  @returns {Promise<object|null>} */
async function credential(ask) {
  try {
    return /** @type {any} */ (await ask())?.toJSON() ?? null;
  } catch (error) {
    // Cancelled, timed out, or made before: browsers do not tell which, on purpose.
    if (error instanceof DOMException) return null;
    throw error;
  }
}

/** Whether somebody has used or made a passkey in this browser: then it comes first. */
function knowsPasskey() {
  try {
    return localStorage.getItem(KNOWN) !== null;
  } catch {
    return false; // storage is blocked
  }
}

export function rememberPasskey() {
  try {
    localStorage.setItem(KNOWN, '1');
  } catch {} // as above
}

/** Puts "Sign in with a passkey" at a form, where the browser can: above it where there is one.
 *  @param {import('./api.js').Api} api  @param {HTMLFormElement} form
 *  @param {(answer: any) => void|Promise<void>} entered
 *  @param {(problem: any) => void} fail */
export function offerPasskey(api, form, entered, fail) {
  if (!canUsePasskeys()) return;
  const first = knowsPasskey();
  const button = make('button', { type: 'button', id: 'passkey-sign-in',
    ...(!first && { class: 'plain' }) }, 'Sign in with a passkey');
  button.addEventListener('click', async () => {
    if (button.getAttribute('aria-disabled') === 'true') return;
    button.setAttribute('aria-disabled', 'true');
    try {
      const signed = await passkeySignature(api);
      if (signed) {
        const answer = await api.passkeySignIn({ credential: signed });
        rememberPasskey();
        await entered(answer);
      }
    } catch (problem) {
      fail(problem);
    } finally {
      button.removeAttribute('aria-disabled');
    }
  });
  if (!first) return form.append(button);
  form.before(make('div', { class: 'passkey-first' }, button, make('p', { class: 'or' }, 'or')));
  form.querySelector('[type=submit]')?.classList.add('second');
}
