/** Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
 *
 *    USHER_PASSWORD=… node join.mjs http://127.0.0.1:8888 ada@example.org channel:ID
 *
 *  Node 22 or later, Deno and Bun need nothing else. Their WebSocket, like a browser's, takes no
 *  headers: the token goes in a subprotocol, of which the server selects `usher.v1` only. */

import process from 'node:process';

const [server, email, room] = process.argv.slice(2);

const answer = await fetch(`${server}/api/auth/login`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ email, password: process.env.USHER_PASSWORD, client: 'native' }),
});
if (!answer.ok) throw new Error(await answer.text());
// A real app keeps the refresh token too, and renews with it.
const { user, access_token: token } = await answer.json();
console.log('signed in as', user.name);

const socket = new WebSocket(`ws${server.slice('http'.length)}/ws`,
  ['usher.v1', `usher.bearer.${token}`]);
const send = (frame) => socket.send(JSON.stringify(frame));

socket.addEventListener('message', ({ data: text }) => {
  const frame = JSON.parse(text);
  switch (frame.event) {
    case 'joined':
      send({ event: 'join', id: 1, data: { room } });
      break;
    case 'reply':
      if (!frame.ok) console.log('refused', frame.error.code);
      else if (frame.id === 1) {
        console.log('joined', room);
        send({ event: 'message', id: 2, data: { room, data: 'hello' } });
      }
      break;
    case 'message':
      console.log('received', frame.data.data);
      break;
    case 'closing': {
      const { code, reason, retry } = frame.data;
      console.log(`closing ${code} ${reason}, retry: ${retry}`);
      break;
    }
  }
});
socket.addEventListener('close', ({ code, reason }) => console.log('closed', code, reason));
