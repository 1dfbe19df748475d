/** A frame as code that sends it, or waits for it. Frames come here masked, and TICKET stands where
 *  a credential belongs: what is copied holds no secret. */

/** @type {Record<string, string>} */
export const LANGUAGES = { javascript: 'JavaScript', python: 'Python', websocat: 'websocat', curl: 'curl' };

// By lines, because a bundle takes no line that begins with `import` but a module's own.
const PYTHON_IMPORTS = ['import asyncio', 'import json', '',
  'from websockets.asyncio.client import connect', ''].join('\n');
const PROTOCOL = 'usher.v1';

/** @param {string} language one of LANGUAGES  @param {string} direction 'in' or 'out'
 *  @param {any} frame masked  @param {string} server its address  @returns {string} */
export function snippet(language, direction, frame, server) {
  const url = `${server.replace(/^http/, 'ws')}/ws?ticket=TICKET`;
  const sent = direction === 'out' ? frame : null;
  if (language === 'javascript') return javascript(url, sent, frame.event);
  if (language === 'python') return python(url, sent, frame.event);
  if (language === 'websocat') return websocat(url, sent, frame.event);
  return curl(server, sent);
}

const HOW = 'TICKET: from POST /api/ws/ticket. It opens one socket.';

/** @param {string} url  @param {any} sent  @param {string} event */
function javascript(url, sent, event) {
  const act = sent
    ? `if (frame.event === 'joined') socket.send(JSON.stringify(${JSON.stringify(sent)}));`
    : `if (frame.event === ${JSON.stringify(event)}) console.log('Here it is');`;
  return `// A browser, or Node 22 or later. ${HOW}
const socket = new WebSocket('${url}', '${PROTOCOL}');
socket.onmessage = ({ data }) => {
  const frame = JSON.parse(data);
  console.log(frame);
  ${act}
};
`;
}

/** @param {string} url  @param {any} sent  @param {string} event */
function python(url, sent, event) {
  const act = sent
    ? `if frame["event"] == "joined":
                await socket.send(json.dumps(${literal(sent)}))`
    : `if frame["event"] == ${literal(event)}:
                break`;
  return `# pip install websockets. ${HOW}
${PYTHON_IMPORTS}

async def main():
    async with connect("${url}", subprotocols=["${PROTOCOL}"]) as socket:
        async for text in socket:
            frame = json.loads(text)
            print(frame, flush=True)
            ${act}


asyncio.run(main())
`;
}

/** @param {any} value of JSON  @returns {string} the same in Python */
function literal(value) {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value !== 'object') return JSON.stringify(value);
  const members = Object.entries(value).map(([key, of]) => `${JSON.stringify(key)}: ${literal(of)}`);
  return `{${members.join(', ')}}`;
}

/** @param {string} url  @param {any} sent  @param {string} event */
function websocat(url, sent, event) {
  const open = `websocat --no-close --protocol ${PROTOCOL} '${url}'`;
  if (sent) return `# ${HOW}\nprintf '%s\\n' ${quoted(JSON.stringify(sent))} | ${open}\n`;
  return `# ${HOW}\n${open} | grep -F ${quoted(JSON.stringify(event))}\n`;
}

/** curl is no client of frames: it publishes to a room, or opens the socket and shows what comes.
 *  @param {string} server  @param {any} sent */
function curl(server, sent) {
  const room = sent?.data?.room;
  if (sent?.event === 'message' && typeof room === 'string') {
    const body = JSON.stringify({ room, event: 'message', data: sent.data.data ?? null });
    return `# KEY: an API key that may publish.
curl '${server}/api/publish' \\
  -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \\
  -d ${quoted(body)}
`;
  }
  return `# ${HOW} curl shows what arrives, as bytes, and sends no frame.
curl --http1.1 -iN --max-time 60 --output - '${server}/ws?ticket=TICKET' \\
  -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \\
  -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H 'Sec-WebSocket-Protocol: ${PROTOCOL}'
`;
}

/** @param {string} text  @returns {string} one word of a shell */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
