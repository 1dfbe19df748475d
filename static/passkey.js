/** Passkeys of this browser (WebAuthn), in the JSON forms that the server speaks. */

import { make } from './dom.js';

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

/** Puts "Sign in with a passkey" below a form, where the browser can.
 *  @param {import('./api.js').Api} api  @param {HTMLFormElement} form
 *  @param {(answer: any) => void|Promise<void>} entered
 *  @param {(problem: any) => void} fail */
export function offerPasskey(api, form, entered, fail) {
  if (!canUsePasskeys()) return;
  const button = make('button', { type: 'button', class: 'plain', id: 'passkey-sign-in' },
    'Sign in with a passkey');
  button.addEventListener('click', async () => {
    if (button.getAttribute('aria-disabled') === 'true') return;
    button.setAttribute('aria-disabled', 'true');
    try {
      const signed = await passkeySignature(api);
      if (signed) await entered(await api.passkeySignIn({ credential: signed }));
    } catch (problem) {
      fail(problem);
    } finally {
      button.removeAttribute('aria-disabled');
    }
  });
  form.append(button);
}
