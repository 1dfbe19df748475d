"""Native clients from npm: a join, a refusal and a restart."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import kinds
from tests.support.npm import npm_packages, shown, start_node
from tests.support.raw import quiet_usher
from tests.support.server import Usher, sign_up, usher

database_kind = kinds("sqlite")  # foreign clients see no SQL


@pytest.fixture(scope="module")
def packages() -> Iterator[Path]:
    with npm_packages("ws", "faye-websocket") as folder:
        yield folder


@pytest.fixture(scope="module")
def quiet(database_kind: str) -> Iterator[Usher]:
    with quiet_usher(database_kind) as running:
        yield running


AFTER_OPEN = """
import { once } from 'node:events';
import WebSocket from 'ws';
const { WS, TOKEN, WANTED } = process.env;
// On a busy machine the program itself may be late once and again; never every time.
const end = Date.now() + 20_000;
let seen = 0;
let tries = 0;
while (seen < 5 && Date.now() < end) {
  const ws = new WebSocket(WS, ['usher.v1', `usher.bearer.${TOKEN}`]);
  const closed = once(ws, 'close');
  await once(ws, 'open');
  tries++;
  const first = await Promise.race([
    once(ws, 'message').then(([data]) => JSON.parse(data).event),
    closed.then(() => 'close'),
    new Promise((resolve) => setTimeout(resolve, 1000, 'nothing')),
  ]);
  if (first === WANTED) seen++;
  ws.close();
  await closed;
}
console.log(JSON.stringify({ seen, tries }));
"""
"""Code that awaits `open` before it listens."""


def test_ws_sees_joined_where_it_listens_after_open(packages: Path, quiet: Usher) -> None:
    token = sign_up(quiet).token or ""
    process = start_node(packages, AFTER_OPEN, WS=quiet.ws, TOKEN=token, WANTED="joined")
    (found,) = shown(process)
    assert found["seen"] == 5, found


def test_ws_sees_why_it_is_refused_where_it_listens_after_open(
    packages: Path, quiet: Usher
) -> None:
    process = start_node(packages, AFTER_OPEN, WS=quiet.ws, TOKEN="rubbish", WANTED="closing")
    (found,) = shown(process)
    assert found["seen"] == 5, found


FAYE = """
import faye from 'faye-websocket';
const { WS, TOKEN } = process.env;
const socket = new faye.Client(WS, ['usher.v1', `usher.bearer.${TOKEN}`]);
const show = (value) => console.log(JSON.stringify(value));
socket.on('message', ({ data }) => {
  const { event, data: said } = JSON.parse(data);
  if (event === 'joined' || event === 'closing') show({ event, said });
});
socket.on('close', ({ code }) => { show({ event: 'close', code }); process.exit(); });
"""


def test_faye_learns_from_closing_to_reconnect_after_a_restart(
    packages: Path, database_kind: str
) -> None:
    """Its library knows no 1012 and says 1002: without `closing` that means back-off as well."""
    with usher(database_kind) as server:
        token = sign_up(server).token or ""
        process = start_node(packages, FAYE, WS=server.ws, TOKEN=token)
        assert process.stdout is not None
        joined = json.loads(process.stdout.readline())
        assert joined["event"] == "joined"
        assert server.end(signal.SIGTERM) == 0
        closing, close = shown(process)
        assert closing["event"] == "closing"
        assert (closing["said"]["code"], closing["said"]["retry"]) == (1012, "backoff")
        assert closing["said"]["after"] >= 0
        assert close == {"event": "close", "code": 1002}
