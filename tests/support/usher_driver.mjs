// Lets a test outside drive clients of static/usher.js: one JSON command a line comes in, one
// JSON message a line goes out. See node.py.
import { createInterface } from 'node:readline';
import { step, TRANSITIONS } from '../../static/usher-life.js';
import { UsherClient } from '../../static/usher.js';

const clients = new Map();

function tell(client, kind, detail) {
  process.stdout.write(`${JSON.stringify({ client, kind, at: Date.now(), detail })}\n`);
}

/** Gives one token after the other; the last one stays. A number: refused with that status.
 *  `throws`: an error with this message; null: no token at all. */
function getTokenFrom(name, tokens) {
  let next = 0;
  return async ({ renew }) => {
    const token = tokens[Math.min(next++, tokens.length - 1)];
    tell(name, 'token', { renew, token });
    if (typeof token === 'number') throw Object.assign(new Error('refused'), { status: token });
    if (token?.throws) throw new Error(token.throws);
    return token;
  };
}

/** As JSON: an error by what it says. */
const shown = ({ error, ...detail }) => ({ ...detail, ...(error && { error: error.message }) });

const commands = {
  new({ client: name, tokens, options }) {
    const client = new UsherClient({ ...options, getToken: getTokenFrom(name, tokens) });
    for (const kind of ['state', 'frame', 'event', 'news', 'gap']) {
      client.addEventListener(kind, ({ detail }) => tell(name, kind, shown(detail)));
    }
    clients.set(name, client);
  },
  connect: (client) => client.connect(),
  request: (client, { event, data, options }) => client.request(event, data, options),
  send: (client, { event, data }) => client.send(event, data),
  close: (client) => client.close(),
  refresh: (client) => client.refresh(),
  expiresIn: (client) => client.expiresIn,
  session: (client) => client.session,
  step: (_, { life, event }) => step(life, event),
  transitions: () => Object.entries(TRANSITIONS).flatMap(
    ([name, events]) => Object.keys(events).map((type) => [name, type])),
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line);
  if (command.do === 'new') return commands.new(command);
  const { client: name, call } = command;
  try {
    const value = await commands[command.do](clients.get(name), command);
    tell(name, 'result', { call, ok: true, value });
  } catch ({ code, status, why, message, cause }) {
    tell(name, 'result', { call, ok: false, code, status, why, message, cause: cause?.message });
  }
}).on('close', () => {
  for (const client of clients.values()) client.close();
});
