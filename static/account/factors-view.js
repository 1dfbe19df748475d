/** "Sign-in security": the authenticator app with its recovery codes, and passkeys. */

import { inOrder, make, setText, timeElement } from '../dom.js';
import { markField, onSubmit } from '../forms.js';
import { copyButton } from '../ui.js';
import { update } from '../update.js';
import { canUsePasskeys, newPasskey, rememberPasskey } from '../passkey.js';

export class FactorsView {
  #generation = 0; // of what is shown: an answer that comes late belongs to somebody else
  #order = inOrder();

  /** @param {import('../api.js').Api} api  @param {Element} place
   *  @param {() => void} ended the session is over */
  constructor(api, place, ended) {
    this.api = api;
    this.ended = ended;
    this.app = make('div', { id: 'totp' });
    this.keys = make('ul', { class: 'entries', id: 'passkeys' });
    this.error = make('p', { class: 'form-error', id: 'factors-error', role: 'alert' });
    this.add = make('button', { type: 'button', class: 'plain', id: 'add-passkey' },
      'Add a passkey');
    this.add.addEventListener('click', () => this.#act(async () => {
      const credential = await newPasskey(this.api);
      if (!credential) return;
      await this.api.addPasskey({ credential, name: '' });
      rememberPasskey();
    }));
    place.append(this.app, this.keys, this.error,
      ...(canUsePasskeys() ? [make('div', { class: 'row ways' }, this.add)] : []));
  }

  start() {
    this.stop();
    this.#load();
  }

  stop() {
    this.#generation += 1;
    this.app.replaceChildren();
    this.keys.replaceChildren();
    setText(this.error, '');
  }

  async #load() {
    const generation = this.#generation;
    const isNewest = this.#order();
    try {
      const [totp, { items }] = await Promise.all([this.api.totp(), this.api.passkeys()]);
      if (generation !== this.#generation || !isNewest()) return;
      this.#showApp(totp);
      update(this.keys, items.map((/** @type {any} */ one) => this.#key(one)));
    } catch (problem) {
      if (generation === this.#generation) this.#failed(problem);
    }
  }

  /** @param {() => Promise<void>} act  @param {boolean} [reload] */
  async #act(act, reload = true) {
    const generation = this.#generation;
    setText(this.error, '');
    try {
      await act();
      if (reload && generation === this.#generation) await this.#load();
    } catch (problem) {
      if (generation === this.#generation) this.#failed(problem);
    }
  }

  /** @param {any} problem */
  #failed(problem) {
    if (problem.signedOut) this.ended();
    else setText(this.error, problem.message);
  }

  /** @param {string} id  @param {string} text  @param {() => Promise<void>} act
   *  @param {boolean} [reload] */
  #button(id, text, act, reload) {
    const button = make('button', { type: 'button', class: 'plain', id }, text);
    button.onclick = () => this.#act(act, reload);
    return button;
  }

  /** @param {{enabled: boolean, recovery_codes_left: number}} state */
  #showApp({ enabled, recovery_codes_left: left }) {
    update(this.app, [make('p', {}, enabled
      ? `Your authenticator app is on. Recovery codes left: ${left}.`
      : 'With an authenticator app, your password alone signs nobody in.'),
    make('div', { class: 'row ways' }, ...(enabled ? [
      this.#button('new-codes', 'New recovery codes', async () => {
        this.#showCodes((await this.api.newRecoveryCodes()).recovery_codes);
      }, false),
      this.#button('remove-totp', 'Remove the app', () => this.api.removeTotp()),
    ] : [this.#button('add-totp', 'Set up an app', () => this.#begin(), false)]))]);
  }

  async #begin() {
    const { secret, qr_svg: svg } = await this.api.newTotp();
    // A document of its own, in which nothing runs or is fetched.
    const parsed = new DOMParser().parseFromString(svg, 'text/html');
    const picture = /** @type {Element} */ (parsed.querySelector('svg'));
    picture.setAttribute('role', 'img');
    picture.setAttribute('aria-label', 'QR code of the secret');
    picture.setAttribute('class', 'qr');
    const field = make('input', { id: 'totp-code', name: 'code', required: '', maxlength: '64',
      inputmode: 'numeric', autocomplete: 'one-time-code', 'aria-describedby': 'totp-code-error' });
    const form = make('form', { id: 'totp-form', novalidate: '' },
      make('p', {}, 'Scan this with your app, or type the secret:'),
      document.importNode(picture, true),
      make('p', {}, make('code', { id: 'totp-secret' }, secret)),
      make('div', { class: 'field' }, make('label', { for: 'totp-code' }, 'Code of the app'),
        field, make('p', { class: 'field-error', id: 'totp-code-error' })),
      make('p', { class: 'form-error', role: 'alert' }),
      make('button', { type: 'submit' }, 'Confirm'));
    this.app.replaceChildren(form);
    onSubmit(form, async ({ code }) => {
      this.#showCodes((await this.api.confirmTotp({ code })).recovery_codes);
    }, (problem) => {
      if (problem.code !== 'wrong_code') return this.#failed(problem);
      markField(field, 'That code is not right, or was used already. Wait for the next one, and '
        + 'check the clock of your device.');
      field.focus();
    });
    field.focus();
  }

  /** @param {string[]} codes */
  #showCodes(codes) {
    const title = make('p', { tabindex: '-1' },
      'Keep these recovery codes. Each works once, and they are shown only now.');
    this.app.replaceChildren(title,
      make('ul', { id: 'recovery-codes' },
        ...codes.map((code) => make('li', {}, make('code', {}, code)))),
      make('div', { class: 'row ways' },
        this.#button('codes-kept', 'I have kept them', async () => {}),
        copyButton(codes.join('\n'), 'recovery codes')));
    title.focus();
  }

  /** @param {{id: string, name: string, created_at: number}} key */
  #key({ id, name, created_at: made }) {
    const shown = make('div', {}, make('strong', {}, name),
      make('p', {}, 'Added ', timeElement(made)));
    const rename = make('button', { type: 'button', class: 'plain', id: `rename-${id}` }, 'Rename',
      make('span', { class: 'unseen' }, ` ${name}`));
    rename.onclick = (/** @type {any} */ { currentTarget }) => (
      this.#rename(currentTarget.closest('li').firstElementChild, id, name));
    const remove = this.#button(`remove-${id}`, 'Remove', () => this.api.removePasskey(id));
    remove.append(make('span', { class: 'unseen' }, ` ${name}`));
    return make('li', { 'data-key': id }, shown, make('div', { class: 'row' }, rename, remove));
  }

  /** @param {Element} shown  @param {string} id  @param {string} name */
  #rename(shown, id, name) {
    const field = make('input', { id: `name-${id}`, name: 'name', required: '', maxlength: '60',
      autocomplete: 'off', value: name, 'aria-describedby': `name-${id}-error` });
    const form = make('form', { novalidate: '' },
      make('div', { class: 'field' },
        make('label', { for: `name-${id}` }, 'Name, such as the device that has it'),
        field, make('p', { class: 'field-error', id: `name-${id}-error` })),
      make('p', { class: 'form-error', role: 'alert' }),
      make('button', { type: 'submit' }, 'Save'));
    shown.replaceChildren(form);
    onSubmit(form, async ({ name: given }) => {
      await this.api.renamePasskey(id, { name: String(given) });
      await this.#load();
    }, (problem) => this.#failed(problem));
    field.focus();
    field.select();
  }
}
