#!/usr/bin/env node
/** A command-line program that signs in through the system's browser and opens a socket.
 *
 *    node sign-in.mjs http://127.0.0.1:8888
 *    node sign-in.mjs http://127.0.0.1:8888 --provider google
 *
 *  It needs Node 22 or later, and nothing else. RFC 8252: the browser shows the sign-in page, and
 *  sends its answer to a port that this program listens on. RFC 7636: a code that somebody else
 *  picks up on the way is worth nothing without the verifier, which never leaves this program.
 *
 *  BROWSER in the environment says which program is given the address; otherwise it is the
 *  system's own way to open one. */

import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const WAIT_MS = 300_000;
const AGENT = 'Usher example (Node)';
const random = () => randomBytes(32).toString('base64url');

/** Signs in in the browser.  @returns {Promise<any>} the user and the tokens */
async function signIn(server, provider) {
  const [verifier, state] = [random(), random()];
  const listener = createServer();
  await new Promise((resolve, reject) => {
    listener.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  const redirectUri = `http://127.0.0.1:${listener.address().port}/callback`;
  const url = new URL(provider ? `/oauth/${provider}/login` : '/sign-in', server);
  url.search = String(new URLSearchParams({
    client: 'native',
    redirect_uri: redirectUri,
    state,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
  }));
  console.log('Sign in in your browser:', url.href);
  const coming = answerTo(listener, state);
  openBrowser(url.href);
  const answer = await coming.finally(() => listener.close());
  listener.closeAllConnections();
  if (answer.get('iss') !== server) { // RFC 9207
    throw new Error(`The answer is of ${answer.get('iss')} and not of ${server}: give the server's`
      + ' own address.');
  }
  if (!answer.has('code')) throw new Error(`Not signed in: ${answer.get('error')}`);
  return post(server, '/api/auth/exchange', {
    code: answer.get('code'), code_verifier: verifier, redirect_uri: redirectUri,
  });
}

/** The answer to our own question: `state` tells it from any other that comes to this port.
 *  @returns {Promise<URLSearchParams>} */
function answerTo(listener, state) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('Nobody signed in.')), WAIT_MS);
    listener.on('request', ({ url }, response) => {
      const { pathname, searchParams } = new URL(url, 'http://127.0.0.1');
      const ours = pathname === '/callback' && searchParams.get('state') === state;
      const said = searchParams.has('code') ? 'You are signed in.' : 'You are not signed in.';
      response.writeHead(ours ? 200 : 404, { 'Content-Type': 'text/html', Connection: 'close' });
      response.end(`<!doctype html><meta charset=utf-8><title>Done</title><p>${
        ours ? `${said} You can close this page.` : 'There is nothing here.'}</p>`);
      if (!ours) return;
      clearTimeout(timer);
      response.once('finish', () => resolve(searchParams));
    });
  });
}

function openBrowser(url) {
  const ways = { darwin: ['open'], win32: ['rundll32', 'url.dll,FileProtocolHandler'] };
  const [program, ...rest] = process.env.BROWSER
    ? [process.env.BROWSER] : ways[process.platform] ?? ['xdg-open'];
  // The URL is shown above, for machines without a browser.
  spawn(program, [...rest, url], { stdio: 'ignore', detached: true }).on('error', () => {}).unref();
}

async function post(server, path, body) {
  const answer = await fetch(new URL(path, server), {
    method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(20_000),
    headers: { 'Content-Type': 'application/json', 'User-Agent': AGENT },
  });
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
  return answer.json();
}

/** Opens a socket and prints what comes. A WebSocket of Node's takes no headers: the token goes
 *  in a subprotocol, of which the server echoes `usher.v1` only. */
function listen(server, token) {
  const socket = new WebSocket(`ws${server.slice('http'.length)}/ws`,
    ['usher.v1', `usher.bearer.${token}`]);
  socket.addEventListener('message', ({ data }) => console.log(data));
  socket.addEventListener('close', ({ code, reason }) => {
    console.error(`The socket was closed: ${code} ${reason}`);
    process.exitCode = 1;
  });
}

const { positionals: [where], values: { provider } } = parseArgs({
  allowPositionals: true, options: { provider: { type: 'string' } },
});
if (!where) {
  console.error('usage: sign-in.mjs http://127.0.0.1:8888 [--provider NAME]');
  process.exit(2);
}
if (!globalThis.WebSocket) { // before anybody signs in for nothing
  console.error(`Node ${process.versions.node} has no WebSocket: Node 22 or later is needed.`);
  process.exit(1);
}
try {
  const server = new URL(where).origin;
  const signedIn = await signIn(server, provider);
  console.log('Signed in as', signedIn.user.name);
  // A real app keeps signedIn.refresh_token in the system's keychain, and renews with it.
  listen(server, signedIn.access_token);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
