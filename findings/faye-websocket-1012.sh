#!/usr/bin/env bash
# faye-websocket 0.11.4 (npm) reports a close with 1012 (Service Restart, registered with IANA) as
# 1002 (protocol error), with the reason that was sent. 1001 and 4410 arrive as they are. A client
# that takes 1002 for "never come back" stays away after a restart.
# Server here: ws 8.23.0. Runs in a temporary folder; fails if that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
npm install --silent --no-audit --no-fund --ignore-scripts faye-websocket@0.11.4 ws@8.23.0 >/dev/null
cat > run.mjs <<'JS'
import faye from 'faye-websocket';
import { WebSocketServer } from 'ws';
const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
server.on('connection', (socket, { url }) => socket.close(Number(url.slice(1)), 'a reason'));
await new Promise((resolve) => server.on('listening', resolve));
const found = [];
for (const sent of [1001, 1012, 4410]) {
  const socket = new faye.Client(`ws://127.0.0.1:${server.address().port}/${sent}`);
  await new Promise((resolve) => socket.on('close', ({ code, reason }) => {
    found.push(`${sent} -> ${code} ${reason}`);
    resolve();
  }));
}
console.log(found.join('\n'));
process.exit();
JS
out=$(node run.mjs); echo "$out"
grep -q '^1001 -> 1001 a reason$' <<<"$out"
grep -q '^4410 -> 4410 a reason$' <<<"$out"
grep -q '^1012 -> 1002 a reason$' <<<"$out"
