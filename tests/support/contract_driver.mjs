// clients/js as clients/contract drives it: see clients/contract/README.md.
// argv[2]: the module to drive; default: the sources.
import { createInterface } from 'node:readline';

const { createUsher } = await import(process.argv[2] ?? '../../static/usher-index.js');

const clients = new Map();
const now = Date.now;
let jumped = 0;
Date.now = () => now() + jumped;

function tell(client, kind, detail) {
  process.stdout.write(`${JSON.stringify({ client, kind, detail })}\n`);
}

const commands = {
  new(_, { client: name, url, options }) {
    const {
      backoff_ms: backoffMs, max_backoff_ms: maxBackoffMs, timeout_ms: timeoutMs,
      heartbeat_ms: heartbeatMs,
    } = options;
    const usher = createUsher({ url, backoffMs, maxBackoffMs, timeoutMs, heartbeatMs });
    usher.on('state', ({ error, retryAt, session, ...state }) => tell(name, 'state',
      { ...state, ...(retryAt && { pause: (retryAt - Date.now()) / 1000 }) }));
    clients.set(name, usher);
  },
  sign_in: (usher, { email, password }) => usher.signIn({ email, password }),
  sign_out: (usher) => usher.signOut(),
  connect: (usher) => usher.connect(),
  close: (usher) => usher.close(),
  listen(usher, { client: name, room }) {
    for (const kind of ['message', 'event', 'typing', 'presence', 'gap']) {
      usher.room(room).on(kind, (detail) => tell(name, kind, detail));
    }
  },
  send: (usher, { room, data }) => usher.room(room).send(data),
  history: (usher, { room, after }) => usher.room(room).history({ after }),
  presence: (usher, { room }) => usher.room(room).presence(),
  typing: (usher, { room }) => usher.room(room).typing(),
  leave: (usher, { room }) => usher.room(room).leave(),
  async call(usher, { method, path, body }) {
    const answer = await usher.fetch(path, {
      method,
      ...(body && { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
    });
    return { status: answer.status, body: JSON.parse(await answer.text() || 'null') };
  },
  clock(_, { seconds }) { jumped += seconds * 1000; },
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line);
  const { client: name, call } = command;
  try {
    const value = await commands[command.do](clients.get(name), command);
    tell(name, 'result', { call, ok: true, value: value ?? null });
  } catch ({ code, status, retryAfter, message }) {
    tell(name, 'result', { call, ok: false, code, status, retry_after: retryAfter, message });
  }
}).on('close', () => {
  for (const usher of clients.values()) usher.close();
});
