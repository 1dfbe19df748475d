// A program in TypeScript that uses every call of clients/js. It is checked, not run:
// tests/client/test_package_js.py.
import {
  Room, RETRY, Usher, UsherClient, UsherError, VERSION, createUsher,
} from 'usher-client';

const usher: Usher = createUsher({
  url: new URL('https://usher.example'),
  credentials: 'tokens',
  storage: localStorage,
  WebSocket,
  fetch,
  timeoutMs: 5_000,
});
createUsher();
createUsher({ getToken: async ({ renew }) => (renew ? 'newer' : 'token') });

const user = await usher.signIn({ email: 'ada@example.org', password: 'a quiet heron at dusk' });
const { id, name, role }: { id: string, name: string, role: string } = user;
const second = await usher.signIn({ email: 'a@example.org', password: 'p' })
  .catch((error: UsherError) => usher.secondFactor(error, { code: '123456' }));
const added = await usher.signUp({ email: 'a@example.org', password: 'p', name: 'Ada' });
if (added === null) throw new Error('to be confirmed first');
const maybe: string | undefined = (await usher.me())?.name ?? usher.user?.name;
const answer: Response = await usher.fetch('/api/channels', { method: 'POST', body: '{}' });
await usher.fetch(new Request('https://usher.example/api/channels'));

usher.on('state', (state) => {
  if (state.name === 'waiting') console.log(state.retryAt, state.attempt, state.retry);
  if (state.name === 'joined') console.log(state.session.rooms.length);
  // @ts-expect-error only some states have a session
  console.log(state.session);
});
const off: () => void = usher.on('user', (now) => console.log(now?.name));
usher.on('gap', ({ room }) => console.log(room.length));
// @ts-expect-error there is no such event
usher.on('weather', () => {});
off();

const session = await usher.connect();
console.log(session.expires_at.toFixed(), usher.state.name, id, name, role, maybe, answer.ok);

const room: Room = usher.room('channel:tea');
room.on('message', ({ id: messageId, from, data, sent_at: sentAt }) => {
  console.log(messageId?.length, from?.name.length, data.anything, sentAt?.toFixed());
});
room.on('typing', ({ from }) => console.log(from.id.length));
room.on('presence', ({ joined, left }) => console.log(joined.length + left.length));
room.on('gap', ({ room: of }) => console.log(of.length));
room.on('event', ({ event, data }) => console.log(event.length, data));
room.on('price', ({ event, data }) => console.log(event.length, data.eur));
// @ts-expect-error a gap has no sender
room.on('gap', ({ from }) => console.log(from));
const { id: said }: { id: string } = await room.send({ text: 'hello' });
const { messages, complete, more } = await room.history({ after: said });
console.log(messages.map((message) => message.data), complete && more);
console.log((await room.presence()).users.map((person) => person.name), room.joined, room.id);
room.typing();
await room.leave();
await room.join();

try {
  await usher.signInWith('google', { next: 'https://app.example/' });
} catch (error) {
  if (error instanceof UsherError) {
    const { code, status, retryAfter }: {
      code: string, status: number | undefined, retryAfter: number | undefined,
    } = error;
    console.log(code, status, retryAfter, error.problem);
  }
}
await usher.stepUp({ password: "a quiet heron at dusk" });
await usher.signOut();
usher.close();

const low: UsherClient = usher.client;
await low.request('usage', { model: 'small' });
console.log(RETRY[4419] === 'refresh', VERSION.length);
