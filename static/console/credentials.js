/** A token and a ticket taken apart. Nothing of it leaves the page, and no usable one is shown. */

import { byId, duration, make, setText } from '../dom.js';
import { markField, onSubmit } from '../forms.js';

const TIMES = new Set(['iat', 'exp', 'nbf', 'auth_time']);
const MEANING = {
  alg: 'algorithm of the signature', typ: 'type', kid: 'which key signed it', iss: 'who issued it',
  aud: 'for whom', sub: 'the user', sid: 'the login session', jti: 'this token', iat: 'issued',
  exp: 'ends', nbf: 'not before', role: 'role', auth_time: 'last proof of who it is',
  acr: 'kind of proof', name: 'name',
};

export class Credentials {
  /** @type {any} */ #ticks;

  /** @param {import('../app.js').App} app */
  constructor(app) {
    this.app = app;
    onSubmit(byId('jwt-form'), async ({ jwt }) => this.#takeApart(jwt), () => {});
    onSubmit(byId('ticket-form'), () => this.#makeTicket(), (problem) => {
      if (problem.signedOut) app.ended();
      else setText(byId('ticket-made'), problem.message);
      byId('ticket-made').hidden = false;
    });
  }

  stop() { clearInterval(this.#ticks); }

  /** What this page's token says; another one says it after each renewal. */
  async showOwn() {
    try {
      byId('own-claims').replaceChildren(table(await this.app.api.claims()));
    } catch (problem) {
      const { signedOut, message } = /** @type {any} */ (problem);
      if (signedOut) this.app.ended();
      else byId('own-claims')?.replaceChildren(make('p', { class: 'quiet' }, message));
    }
  }

  /** The field is emptied at once: the token may be alive.  @param {string} jwt */
  #takeApart(jwt) {
    const parts = jwt.trim().replace(/^Bearer /i, '').split('.');
    let read;
    try {
      if (parts.length !== 3) throw new Error();
      read = parts.slice(0, 2).map(decoded);
    } catch {
      markField(byId('jwt'), 'This is no JWT: it has three parts with dots between, the first two JSON.');
      byId('jwt').focus();
      return;
    }
    byId('jwt').value = '';
    byId('jwt-parts').replaceChildren(
      make('h3', {}, 'Header'), table(read[0]), make('h3', {}, 'Claims'), table(read[1]),
      make('h3', {}, 'Signature'),
      make('p', {}, make('span', { class: 'code' }, '••••••••'), make('span', { class: 'quiet' },
        ` ${parts[2].length} characters, masked and not checked: only the server can tell whether it is genuine.`)));
  }

  async #makeTicket() {
    const { ticket, expires_in: lives } = await this.app.api.call('POST', '/api/ws/ticket', {});
    const ends = performance.now() + lives * 1000;
    clearInterval(this.#ticks);
    const show = () => {
      const left = (ends - performance.now()) / 1000;
      setText(byId('ticket-made'), left > 0
        ? `${ticket.length} characters, masked: •••••••• · ends in ${duration(left)}`
        : 'The ticket has ended. It was not used.');
      if (left <= 0) clearInterval(this.#ticks);
    };
    byId('ticket-made').hidden = false;
    show();
    this.#ticks = setInterval(show, 1000);
  }
}

/** @param {string} part base64url of a JSON object  @returns {Record<string, any>} */
function decoded(part) {
  const bytes = Uint8Array.from(atob(part.replaceAll('-', '+').replaceAll('_', '/')),
    (letter) => letter.charCodeAt(0));
  const value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Error();
  return value;
}

/** @param {Record<string, any>} members  @returns {HTMLElement} */
function table(members) {
  return make('dl', { class: 'facts' }, ...Object.entries(members).map(([name, value]) => make('div', {},
    make('dt', {}, make('span', { class: 'code' }, name),
      Object.hasOwn(MEANING, name) ? ` · ${MEANING[name]}` : ''),
    make('dd', { class: 'code' }, TIMES.has(name) ? moment(value) : plain(value)))));
}

/** @param {any} value  @returns {string} */
const plain = (value) => (typeof value === 'string' ? value : JSON.stringify(value));

/** @param {any} seconds since 1970  @returns {string} */
function moment(seconds) {
  const date = new Date(seconds * 1000);
  if (typeof seconds !== 'number' || Number.isNaN(date.getTime())) return plain(seconds);
  const away = seconds - Date.now() / 1000;
  return `${date.toLocaleString()} (${away > 0 ? `in ${duration(away)}` : `${duration(-away)} ago`})`;
}
