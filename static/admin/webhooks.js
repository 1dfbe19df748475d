/** Webhooks: where events are sent, and what became of each. */

import { make } from '../dom.js';
import { onSubmit, showFormError } from '../forms.js';
import { dialog, emptyState } from '../ui.js';
import { attempt, button, choices, chosen, errorPlace, failed, field, head, pages, select, showOnce,
  table, when } from './parts.js';

/** @type {[string, string][]} */
const EVENTS = ['user.created', 'user.changed', 'user.disabled', 'user.deleted', 'session.opened',
  'session.ended', 'socket.joined', 'socket.left', 'channel.changed'].map((name) => [name, '']);
/** @type {Record<string, [string, string]>} */
const STATES = { pending: ['tag quiet', 'waiting'], delivered: ['tag', 'delivered'], failed: ['tag bad', 'failed'] };
const SETTLE_MS = 1500;
const LONGEST_MS = 60_000; // more than an attempt may take

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context  @param {string[]} path */
export async function show(place, context, path) {
  if (path[0]) return showDeliveries(place, context, path[0]);
  const { app, calls } = context;
  const list = make('ul', { class: 'entries' });
  const shown = pages(context, {
    read: () => calls.webhooks(),
    list,
    noun: 'webhooks',
    empty: () => emptyState('No webhooks', 'With one, a server of yours is told of new users, sign-outs, sockets and rooms.'),
    row: ({ id, url, events, created_at }) => make('li', {},
      make('div', {}, make('strong', {}, make('a', { href: `#/admin/webhooks/${encodeURIComponent(id)}` }, url)),
        make('div', { class: 'admin-tags' }, ...events.map((/** @type {string} */ name) => (
          make('span', { class: 'tag quiet' }, name)))),
        make('p', {}, 'Made ', when(created_at)))),
  });
  place.append(head('Webhooks', button('Add a webhook', () => add(context, () => attempt(app, shown.load)), '')), shown.element);
  await shown.load();
}

/** @param {import('./admin.js').Context} context  @param {() => void} added */
function add({ app, calls }, added) {
  const form = make('form', { novalidate: '' },
    field('Address', { name: 'url', type: 'url', required: '', maxlength: '2000', placeholder: 'https://' },
      'Events are posted there, signed.'),
    choices('Events', EVENTS, ['user.created', 'session.ended']),
    errorPlace(),
    make('div', { class: 'actions' }, make('button', { type: 'submit' }, 'Add'), button('Cancel', () => box.close())));
  const box = dialog('Add a webhook', form);
  onSubmit(form, async ({ url }) => {
    const events = chosen(form);
    if (!events.length) return showFormError(form, 'Choose at least one event.');
    const { secret } = await calls.newWebhook({ url, events });
    box.close();
    showOnce('The secret of the webhook', 'Your server checks with it that an event is Usher’s. It is shown this once.',
      secret, 'the secret');
    added();
  }, (problem) => {
    if (problem.signedOut) return app.ended();
    showFormError(form, problem.message);
  });
  box.showModal();
}

/** @param {HTMLElement} place  @param {import('./admin.js').Context} context  @param {string} id */
async function showDeliveries(place, context, id) {
  const { app, calls, signal } = context;
  const { items } = await calls.webhooks();
  const hook = items.find((/** @type {any} */ one) => one.id === id);
  if (!hook) return failed(place, app, { status: 404 }, () => app.go('admin/webhooks'));
  const error = errorPlace();
  const { element, body } = table(['Event', 'State', 'Attempts', 'When', 'Acts'], 'Deliveries');
  const state = select('Show', 'state', [['', 'all'], ['pending', 'waiting'], ['delivered', 'delivered'], ['failed', 'failed']]);
  const chosenState = /** @type {HTMLSelectElement} */ (state.querySelector('select'));
  let waits = false; // for a first attempt
  const list = pages(context, {
    read: async (after) => {
      const page = await calls.deliveries(id, { after, state: chosenState.value });
      waits = page.items.some((/** @type {any} */ one) => one.state === 'pending' && !one.attempts);
      return page;
    },
    list: body,
    noun: 'deliveries',
    empty: () => emptyState('No deliveries', 'Send a test event to see whether the address answers.'),
    row: (delivery) => rowOf(delivery),
  });
  list.element.prepend(element);
  let timer = 0;
  /** Reads again until what is on its way was answered, less and less often. */
  const soon = (pause = SETTLE_MS) => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      if (signal.aborted) return;
      await attempt(app, list.load, error);
      if (waits && pause < LONGEST_MS) soon(pause * 2);
    }, pause);
  };

  /** @param {any} delivery  @returns {HTMLElement} */
  function rowOf({ id: number, type, subject, state: now, attempts, created_at, next_attempt_at, status, error: why }) {
    const [kind, word] = STATES[now];
    const result = [status ? `HTTP ${status}` : '', why ?? ''].filter(Boolean).join(', ');
    return make('tr', {}, make('th', { scope: 'row' }, type, make('br'), make('code', { class: 'quiet' }, subject)),
      make('td', {}, make('span', { class: kind }, word), ...(result ? [' ', make('span', { class: 'quiet' }, result)] : [])),
      make('td', {}, String(attempts)),
      make('td', {}, when(created_at), ...(next_attempt_at ? [' · again ',
        new Date(next_attempt_at * 1000).toLocaleTimeString()] : [])),
      make('td', {}, ...(now === 'pending' ? [] : [button('Send again', () => attempt(app, async () => {
        await calls.redeliver(id, number);
        app.toast('It is on its way again');
        await list.load();
        soon();
      }, error), 'plain small', `${type} of ${subject}`)])));
  }

  chosenState.addEventListener('change', () => attempt(app, list.load, error));
  place.append(make('a', { class: 'admin-back', href: '#/admin/webhooks' }, '← Webhooks'),
    head(hook.url,
      button('Send a test event', () => attempt(app, async () => {
        await calls.testWebhook(id);
        app.toast('A test event is on its way');
        await list.load();
        soon();
      }, error)),
      button('Delete', () => attempt(app, async () => {
        if (!await app.ask({ title: 'Delete this webhook?', yes: 'Delete', danger: true,
          text: `Events that wait are not sent to ${hook.url} any more.` })) return;
        await calls.deleteWebhook(id);
        app.toast('The webhook is deleted');
        app.go('admin/webhooks');
      }, error))),
    make('div', { class: 'admin-tags' }, ...hook.events.map((/** @type {string} */ name) => (
      make('span', { class: 'tag quiet' }, name)))),
    error, make('div', { class: 'row' }, state, button('Read again', () => attempt(app, list.load, error))), list.element);
  await list.load();
}
