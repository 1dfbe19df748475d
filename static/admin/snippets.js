/** What "Connect your app" shows. The texts are those of docs/your-app.md and
 * docs/proxies/nginx-auth-request.conf with other addresses: tests/docs/test_connect.py compares
 * and runs them.
 *
 * @typedef {{usher: string, page: string, backend: string, backendPort: string, node: string,
 *   frontPort: string, home: string, passed: string}} Addresses `node`: host and port that Usher
 *   itself listens on; `home`: the path of its front page, which a proxy keeps or strips;
 *   `passed`: what it passes on in place of that path
 */

/** @param {Addresses} at  @returns {string} */
export const browser = (at) => `<!doctype html>
<meta charset="utf-8">
<title>Notes</title>
<p id="who"><a id="sign-in" hidden>Sign in</a></p>
<form hidden><input name="text" aria-label="Note" required><button>Note</button></form>
<ul></ul>
<script type="module">
  import { createUsher } from '${at.usher}/client/usher.js';

  const usher = createUsher({ url: '${at.usher}' });
  const shown = new Set(); // a live event may also be in the history
  const show = ({ id, data }) => {
    if (shown.has(id)) return;
    shown.add(id);
    const item = document.createElement('li');
    item.textContent = data.text;
    document.querySelector('ul').append(item);
  };
  const form = document.querySelector('form');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const asked = await usher.fetch('/api/auth/app-token', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ audience: 'notes' }),
    });
    const { token } = await asked.json();
    await fetch('${at.backend}/notes', {
      method: 'POST', headers: { Authorization: \`Bearer \${token}\` }, body: form.text.value,
    });
    form.reset();
  });

  const me = await usher.me();
  if (me) {
    document.querySelector('#who').textContent = me.name;
    form.hidden = false;
    await usher.connect();
    const room = usher.room(\`user:\${me.id}\`);
    room.on('noted', show);
    (await room.history()).messages.filter(({ event }) => event === 'noted').forEach(show);
  } else {
    const link = document.querySelector('#sign-in');
    link.href = \`${at.usher}/sign-in?next=\${encodeURIComponent(location.href)}\`;
    link.hidden = false;
  }
</script>
`;

/** @param {Addresses} at  @returns {string} */
export const fastapi = (at) => `import os

from fastapi import FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from usher_client.backend import Backend, Introspection
from usher_client.backend.asgi import UsherMiddleware, caller_of

USHER, KEY, PAGE = "${at.usher}", os.environ["KEY"], "${at.page}"
app, usher = FastAPI(), Backend(USHER, KEY)
app.add_middleware(UsherMiddleware, checks=Introspection(USHER, KEY))
# The page has another origin, so the browser sends a preflight request. The middleware that is
# added last runs first.
app.add_middleware(
    CORSMiddleware, allow_origins=[PAGE], allow_methods=["*"], allow_headers=["Authorization"]
)


@app.post("/notes")
async def note(request: Request) -> dict[str, str]:
    caller = caller_of(request)
    if caller is None:
        raise HTTPException(401, "Sign in first.")
    text = (await request.body()).decode()
    # Goes to all tabs of this user, and is kept for tabs that are opened later.
    await usher.publish(f"user:{caller.id}", "noted", {"text": text}, keep=True)
    return {"text": text}
`;

/** @param {Addresses} at  @returns {string} */
export const node = (at) => `import { createServer } from 'node:http';

const USHER = '${at.usher}';
const PAGE = '${at.page}';
const { KEY } = process.env;

// The page has another origin, so the browser sends a preflight request.
const cors = {
  'Access-Control-Allow-Origin': PAGE,
  'Access-Control-Allow-Methods': 'POST',
  'Access-Control-Allow-Headers': 'Authorization',
};

async function callerOf(request) {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ');
  if (scheme.toLowerCase() !== 'bearer' || !token) return null;
  const answer = await fetch(\`\${USHER}/api/introspect\`, {
    method: 'POST',
    headers: { Authorization: \`Bearer \${KEY}\` },
    body: new URLSearchParams({ token }),
  });
  if (!answer.ok) throw new Error(\`Usher answers \${answer.status}\`);
  const caller = await answer.json();
  return caller.active ? caller : null;
}

async function note(request) {
  const caller = await callerOf(request);
  if (!caller) return [401, { detail: 'Sign in first.' }];
  let text = '';
  for await (const part of request.setEncoding('utf8')) text += part;
  // Goes to all tabs of this user, and is kept for tabs that are opened later.
  const published = await fetch(\`\${USHER}/api/publish\`, {
    method: 'POST',
    headers: { Authorization: \`Bearer \${KEY}\`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ room: \`user:\${caller.sub}\`, event: 'noted', data: { text }, keep: true }),
  });
  if (!published.ok) throw new Error(\`Usher answers \${published.status}\`);
  return [200, { text }];
}

createServer(async (request, response) => {
  let answer = [404, { detail: 'There is only POST /notes.' }];
  try {
    if (request.method === 'OPTIONS') answer = [204];
    else if (request.method === 'POST' && request.url === '/notes') answer = await note(request);
  } catch (error) {
    console.error(error.message);
    answer = [503, { detail: 'Try again shortly.' }];
  }
  const [status, body] = answer;
  response.writeHead(status, { ...cors, 'Content-Type': 'application/json' });
  response.end(body && JSON.stringify(body));
}).listen(${at.backendPort}, '127.0.0.1');
`;

/** @param {Addresses} at  @returns {string} */
export const nginx = (at) => `map $http_upgrade $websocket {
    default         "";
    "~*^websocket$" websocket;
}
map $websocket $connection_header {
    default   "";
    websocket upgrade;
}
upstream usher {
    server ${at.node};
    keepalive 16;
}

server {
    listen ${at.frontPort};
    client_max_body_size 64k;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    # Written anew: what a client sends under these names is thrown away.
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Method "";
    proxy_set_header Upgrade $websocket;
    proxy_set_header Connection $connection_header;

    # The app. Usher answers 200, 401 or 403, and nginx hands the last two on.
    location /app/ {
        auth_request /usher-verify;
        auth_request_set $user_id    $upstream_http_x_usher_user_id;
        auth_request_set $user_name  $upstream_http_x_usher_user_name;
        auth_request_set $role       $upstream_http_x_usher_role;
        auth_request_set $session_id $upstream_http_x_usher_session_id;
        proxy_set_header X-Usher-User-Id    $user_id;
        proxy_set_header X-Usher-User-Name  $user_name;
        proxy_set_header X-Usher-Role       $role;
        proxy_set_header X-Usher-Session-Id $session_id;
        # A location with a header of its own has none of those above.
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Upgrade $websocket;
        proxy_set_header Connection $connection_header;
        proxy_pass ${at.backend};
    }

    location = /usher-verify {
        internal;
        proxy_pass http://usher${at.passed}api/auth/verify;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        # nginx asks by GET, whatever the request is. With this Usher refuses what another
        # site's page sends with the user's cookie.
        proxy_set_header X-Forwarded-Method $request_method;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Upgrade "";
        proxy_set_header Connection "";
    }

    # Usher itself: its page, its calls and its socket.
    location ${at.home} {
        proxy_read_timeout 90s;
        proxy_pass http://usher${at.passed === at.home ? '' : at.passed};
    }
}
`;
