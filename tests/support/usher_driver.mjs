// Lets a test outside drive clients of static/usher.js: one JSON command a line comes in, one
// JSON message a line goes out. See node.py.
import { createInterface } from 'node:readline';
import { UsherClient } from '../../static/usher.js';

const clients = new Map();

function tell(client, kind, detail) {
  process.stdout.write(`${JSON.stringify({ client, kind, at: Date.now(), detail })}\n`);
}

/** Gives one token after the other; the last one stays. A number: refused with that status. */
function getTokenFrom(name, tokens) {
  let next = 0;
  return async ({ renew }) => {
    const token = tokens[Math.min(next++, tokens.length - 1)];
    tell(name, 'token', { renew, token });
    if (typeof token === 'number') throw Object.assign(new Error('refused'), { status: token });
    return token;
  };
}

const commands = {
  new({ client: name, tokens, options }) {
    const client = new UsherClient({ ...options, getToken: getTokenFrom(name, tokens) });
    for (const kind of ['state', 'frame', 'event', 'news', 'gap']) {
      client.addEventListener(kind, ({ detail }) => tell(name, kind, detail));
    }
    clients.set(name, client);
  },
  connect: (client) => client.connect(),
  request: (client, { event, data, options }) => client.request(event, data, options),
  send: (client, { event, data }) => client.send(event, data),
  close: (client) => client.close(),
  expiresIn: (client) => client.expiresIn,
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line);
  if (command.do === 'new') return commands.new(command);
  const { client: name, call } = command;
  try {
    const value = await commands[command.do](clients.get(name), command);
    tell(name, 'result', { call, ok: true, value });
  } catch ({ code, status, why, message }) {
    tell(name, 'result', { call, ok: false, code, status, why, message });
  }
}).on('close', () => {
  for (const client of clients.values()) client.close();
});
