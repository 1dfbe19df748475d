"""Other clients: `websockets`, Tornado's own, Node's WebSocket, and usher.js in Node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
import websockets.sync.client
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support.raw import quiet_usher
from tests.support.server import (
    PATIENCE,
    ROOT,
    Client,
    Usher,
    ask,
    bearer,
    close_code,
    connect,
    event,
    new_token,
    receive,
    sign_up,
)


@pytest.fixture(scope="module")
def installation(socket_kind: str) -> Iterator[Usher]:
    with quiet_usher(socket_kind) as server:
        yield server


@pytest.fixture
def ada(installation: Usher) -> Client:
    return sign_up(installation)


# ---- websockets, asyncio ---------------------------------------------------------------------


@pytest.mark.gen_test
async def test_websockets_joins_by_header(installation: Usher, ada: Client) -> None:
    headers = {"Authorization": f"Bearer {ada.token}"}
    async with connect(installation, additional_headers=headers) as socket:
        assert (await event(socket, "joined"))["user"]["id"] == ada.user["id"]
        assert (await ask(socket, "heartbeat"))["ok"] is True


@pytest.mark.gen_test
async def test_websockets_joins_by_subprotocol(installation: Usher, ada: Client) -> None:
    async with connect(installation, subprotocols=bearer(ada.token)) as socket:
        assert socket.subprotocol == "usher.v1"
        assert (await event(socket, "joined"))["user"]["id"] == ada.user["id"]


@pytest.mark.gen_test
async def test_websockets_joins_by_ticket(installation: Usher, ada: Client) -> None:
    async with connect(installation, f"?ticket={ada.ticket()}") as socket:
        assert (await event(socket, "joined"))["user"]["id"] == ada.user["id"]


@pytest.mark.gen_test
async def test_websockets_joins_by_cookie(installation: Usher) -> None:
    browser = sign_up(installation, browser=True)
    headers = {"Cookie": f"access_token={browser.cookies['access_token']}"}
    options: Any = {"additional_headers": headers, "origin": installation.url}
    async with connect(installation, **options) as socket:
        assert (await event(socket, "joined"))["user"]["id"] == browser.user["id"]


@pytest.mark.gen_test
async def test_websockets_joins_by_user_join(installation: Usher, ada: Client) -> None:
    async with connect(installation) as socket:
        reply = await ask(socket, "user-join", {"auth": {"token": ada.token}})
        assert reply["data"]["user"]["id"] == ada.user["id"]


@pytest.mark.gen_test
async def test_websockets_sees_each_refusal(installation: Usher, ada: Client) -> None:
    headers = {"Authorization": "Bearer rubbish"}
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(installation, additional_headers=headers)
    assert refused.value.response.status_code == 401
    with pytest.raises(websockets.InvalidStatus) as foreign:
        await connect(installation, origin="https://evil.example")
    assert foreign.value.response.status_code == 403
    async with connect(installation, "?ticket=rubbish") as socket:
        assert (await event(socket, "closing"))["retry"] == "login"
        assert await close_code(socket) == 4401


@pytest.mark.gen_test
async def test_websockets_pings_and_is_answered(installation: Usher, ada: Client) -> None:
    async with connect(installation, subprotocols=bearer(ada.token)) as socket:
        await event(socket, "joined")
        for payload in (b"", b"x", b"y" * 125):
            await (await socket.ping(payload))


@pytest.mark.gen_test
async def test_websockets_sends_a_big_message_in_fragments(
    installation: Usher, ada: Client
) -> None:
    text = json.dumps({"event": "heartbeat", "id": 1, "data": "x" * 60_000})
    async with connect(installation, subprotocols=bearer(ada.token)) as socket:
        await event(socket, "joined")
        await socket.send(text[n : n + 1000] for n in range(0, len(text), 1000))
        assert (await receive(socket))["id"] == 1
        await socket.send(text.replace("x", "xx"))
        if not installation.through_tornado:  # which closes a message that is too big by itself
            assert (await event(socket, "closing"))["reason"] == "message_too_big"
        assert await close_code(socket) == 1009


@pytest.mark.gen_test
async def test_websockets_offers_compression_by_default_and_works_without(
    installation: Usher, ada: Client
) -> None:
    options: Any = {"subprotocols": bearer(ada.token), "proxy": None}
    async with websockets.connect(installation.ws, **options) as socket:
        assert socket.protocol.extensions == []
        assert (await receive(socket))["event"] == "joined"
        assert (await ask(socket, "heartbeat"))["ok"] is True


@pytest.mark.gen_test
async def test_websockets_closes_cleanly(installation: Usher, ada: Client) -> None:
    async with connect(installation, subprotocols=bearer(ada.token)) as socket:
        await event(socket, "joined")
        await socket.close(4000, "done here")
        assert socket.close_code == 4000
        assert socket.protocol.close_rcvd_then_sent is False


@pytest.mark.gen_test
async def test_websockets_sees_its_session_end(installation: Usher, ada: Client) -> None:
    async with connect(installation, subprotocols=bearer(ada.token)) as socket:
        await event(socket, "joined")
        assert ada.post("/api/auth/logout").status == 204
        assert await event(socket, "closing") == {
            "code": 4410,
            "reason": "session_revoked",
            "retry": "login",
        }
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await receive(socket)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4410, "session_revoked")


# ---- websockets, threads ---------------------------------------------------------------------


def test_the_threaded_websockets_joins_asks_and_leaves(installation: Usher, ada: Client) -> None:
    options: Any = {"proxy": None, "open_timeout": PATIENCE, "subprotocols": bearer(ada.token)}
    with websockets.sync.client.connect(installation.ws, **options) as socket:
        assert json.loads(socket.recv(PATIENCE))["event"] == "joined"
        socket.send(json.dumps({"event": "heartbeat", "id": "ünï"}))
        assert json.loads(socket.recv(PATIENCE))["id"] == "ünï"
        socket.send(json.dumps({"event": "token-refresh", "id": 2, "data": {"token": "no"}}))
        assert json.loads(socket.recv(PATIENCE))["error"]["code"] == "unauthenticated"
        pong = socket.ping()
        assert pong.wait(PATIENCE)
    assert socket.protocol.close_code == 1000


def test_the_threaded_websockets_joins_by_message(installation: Usher, ada: Client) -> None:
    with websockets.sync.client.connect(installation.ws, proxy=None) as socket:
        socket.send(json.dumps({"event": "user-join", "data": {"auth": {"token": ada.token}}}))
        assert json.loads(socket.recv(PATIENCE))["event"] == "joined"


# ---- Tornado's own client --------------------------------------------------------------------


async def tornado_event(socket: WebSocketClientConnection) -> Any:
    text = await socket.read_message()
    assert isinstance(text, str), (socket.close_code, socket.close_reason)
    return json.loads(text)


@pytest.mark.gen_test
async def test_tornado_joins_by_header(installation: Usher, ada: Client) -> None:
    request = HTTPRequest(installation.ws, headers={"Authorization": f"Bearer {ada.token}"})
    socket = await websocket_connect(request)
    assert (await tornado_event(socket))["data"]["user"]["id"] == ada.user["id"]
    await socket.write_message(json.dumps({"event": "heartbeat", "id": 1}))
    assert (await tornado_event(socket))["id"] == 1
    socket.close(1000)
    assert await socket.read_message() is None
    assert socket.close_code == 1000


@pytest.mark.gen_test
async def test_tornado_joins_by_subprotocol_ticket_and_message(
    installation: Usher, ada: Client
) -> None:
    by_offer = await websocket_connect(installation.ws, subprotocols=bearer(ada.token))
    assert by_offer.selected_subprotocol == "usher.v1"
    assert (await tornado_event(by_offer))["event"] == "joined"
    by_ticket = await websocket_connect(f"{installation.ws}?ticket={ada.ticket()}")
    assert (await tornado_event(by_ticket))["event"] == "joined"
    later = await websocket_connect(installation.ws, compression_options={})
    join = {"event": "user-join", "id": 1, "data": {"auth": {"token": new_token(ada)}}}
    await later.write_message(json.dumps(join))
    assert (await tornado_event(later))["ok"] is True
    assert ada.post("/api/auth/logout").status == 204
    for socket in (by_offer, by_ticket, later):
        assert (await tornado_event(socket))["event"] == "closing"
        assert await socket.read_message() is None
        assert (socket.close_code, socket.close_reason) == (4410, "session_revoked")
        socket.close()


@pytest.mark.gen_test
async def test_tornado_sees_a_refusal(installation: Usher) -> None:
    request = HTTPRequest(installation.ws, headers={"Authorization": "Bearer rubbish"})
    with pytest.raises(HTTPClientError) as refused:
        await websocket_connect(request)
    assert refused.value.code == 401


# ---- Node ------------------------------------------------------------------------------------


def node_command() -> list[str]:
    """Node with a WebSocket of its own, or nothing."""
    node = shutil.which("node")
    if node is None:
        return []
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.match(r"v(\d+)\.", version)
    assert match is not None, version
    major = int(match[1])
    if major >= 22:
        return [node]
    return [node, "--experimental-websocket"] if major in {20, 21} else []


NODE = node_command()
with_node = pytest.mark.skipif(not NODE, reason="no Node 20 or later here")

PRELUDE = """
const { WS, HTTP, TOKEN, TICKET } = process.env;
const PATIENCE = 20000;
const fail = (why) => { console.error(why); process.exit(1); };
setTimeout(() => fail('nothing came in time'), PATIENCE).unref();

/** A socket whose frames and end can be awaited in their order. */
export function open(url, protocols) {
  const socket = new WebSocket(url, protocols);
  const frames = [], waiting = [];
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (waiting.length) waiting.shift()(frame); else frames.push(frame);
  };
  const next = () => frames.length ? Promise.resolve(frames.shift())
    : new Promise((resolve) => waiting.push(resolve));
  const opened = new Promise((resolve) => { socket.onopen = resolve; });
  const closed = new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
  });
  return { socket, next, opened, closed };
}
const show = (value) => console.log(JSON.stringify(value));
"""


def node(script: str, server: Usher, **variables: str | None) -> list[Any]:
    """Run a script; returns what it showed, line by line."""
    environment = {"PATH": os.environ["PATH"], "WS": server.ws, "HTTP": server.url}
    environment["USHER_JS"] = (ROOT / "static" / "usher.js").as_uri()
    environment |= {name: str(value) for name, value in variables.items()}
    done = subprocess.run(
        [*NODE, "--input-type=module", "--eval", PRELUDE + script],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


ASK_AND_LEAVE = """
socket.send(JSON.stringify({ event: 'heartbeat', id: 'ünï ✓' }));
show(await next());
socket.close(1000, 'done');
show(await closed);
"""


def joined_asked_and_left(shown: list[Any], client: Client) -> None:
    joined, reply, end = shown
    assert joined["data"]["user"]["id"] == client.user["id"]
    assert (reply["id"], reply["ok"]) == ("ünï ✓", True)
    assert end == {"code": 1000, "reason": "", "wasClean": True}


@with_node
def test_node_joins_by_subprotocol(installation: Usher, ada: Client) -> None:
    script = """
    const { socket, next, opened, closed } = open(WS, ['usher.v1', `usher.bearer.${TOKEN}`]);
    await opened;
    show(socket.protocol);
    show(socket.extensions);
    show(await next());
    """
    shown = node(script + ASK_AND_LEAVE, installation, TOKEN=ada.token)
    assert shown[:2] == ["usher.v1", ""]
    joined_asked_and_left(shown[2:], ada)


@with_node
def test_node_joins_by_ticket(installation: Usher, ada: Client) -> None:
    script = """
    const { socket, next, closed } = open(`${WS}?ticket=${encodeURIComponent(TICKET)}`);
    show(await next());
    """
    joined_asked_and_left(node(script + ASK_AND_LEAVE, installation, TICKET=ada.ticket()), ada)


@with_node
def test_node_joins_by_message(installation: Usher, ada: Client) -> None:
    script = """
    const { socket, next, opened, closed } = open(WS, 'usher.v1');
    await opened;
    socket.send(JSON.stringify({ event: 'user-join', id: 1, data: { auth: { token: TOKEN } } }));
    show(await next());
    """
    joined_asked_and_left(node(script + ASK_AND_LEAVE, installation, TOKEN=ada.token), ada)


@with_node
def test_node_sees_why_it_was_closed(installation: Usher) -> None:
    script = """
    for (const protocols of [['usher.v1', 'usher.bearer.rubbish'], ['usher.v1']]) {
      const { socket, next, opened, closed } = open(WS, protocols);
      await opened;
      if (protocols.length === 1) socket.send('this is no JSON');
      show((await next()).data);
      show(await closed);
    }
    """
    shown = node(script, installation)
    assert [said["code"] for said in shown[::2]] == [4401, 4400]
    assert shown[1::2] == [
        {"code": 4401, "reason": "unauthenticated", "wasClean": True},
        {"code": 4400, "reason": "bad_request", "wasClean": True},
    ]


# ---- usher.js --------------------------------------------------------------------------------


USHER_JS = """
const { UsherClient } = await import(process.env.USHER_JS);
const states = [];
const follow = (usher) => {
  usher.addEventListener('state', ({ detail: { name, code, reason, retry } }) =>
    states.push({ name, code, reason, retry }));
  return usher;
};
const until = (name) => new Promise((resolve) => {
  const look = setInterval(() => {
    if (states.at(-1)?.name === name) { clearInterval(look); resolve(); }
  }, 5);
});
const logout = () => fetch(new URL('/api/auth/logout', HTTP), {
  method: 'POST', headers: { Authorization: `Bearer ${TOKEN}` },
});
"""


@with_node
@pytest.mark.parametrize("present", ["subprotocol", "user-join"])
def test_usher_js_joins_asks_and_obeys_the_end(
    installation: Usher, ada: Client, present: str
) -> None:
    script = """
    const usher = follow(new UsherClient(
      { baseUrl: HTTP, present: process.env.PRESENT, getToken: async () => TOKEN }));
    show(await usher.connect());
    show(Object.keys(await usher.request('heartbeat')));
    show(await usher.request('no-such-event').catch(({ code }) => code));
    await logout();
    await until('closed');
    show(states);
    """
    session, keys, unknown, states = node(
        USHER_JS + script, installation, TOKEN=ada.token, PRESENT=present
    )
    assert session["user"]["id"] == ada.user["id"]
    assert keys == ["server_time"]
    assert unknown == "unknown_event"
    assert [state["name"] for state in states] == ["connecting", "joined", "closed"]
    assert states[-1] == {
        "name": "closed",
        "code": 4410,
        "reason": "session_revoked",
        "retry": "login",
    }


@with_node
def test_usher_js_fetches_a_ticket_for_each_connection(installation: Usher, ada: Client) -> None:
    script = """
    const withToken = (url, options) => fetch(url, {
      ...options, headers: { ...options.headers, Authorization: `Bearer ${TOKEN}` } });
    const usher = follow(new UsherClient({ baseUrl: HTTP, fetch: withToken }));
    for (let n = 0; n < 3; n++) {
      show((await usher.connect()).user.id);
      usher.close();
    }
    show(states.map(({ name }) => name));
    """
    *users, states = node(USHER_JS + script, installation, TOKEN=ada.token)
    assert users == [ada.user["id"]] * 3
    assert states == ["connecting", "joined", "closed"] * 3


@with_node
def test_usher_js_does_not_come_back_after_it_was_replaced(
    installation: Usher, ada: Client
) -> None:
    script = """
    const options = { baseUrl: HTTP, getToken: async () => TOKEN };
    const first = follow(new UsherClient(options));
    await first.connect();
    const second = new UsherClient(options);
    await second.connect();
    await until('closed');
    show(states.at(-1));
    show(second.state.name);
    second.close();
    """
    end, other = node(USHER_JS + script, installation, TOKEN=ada.token)
    assert (end["code"], end["retry"], other) == (4409, "never", "joined")


@with_node
def test_usher_js_gives_up_on_a_token_that_is_invalid(installation: Usher) -> None:
    script = """
    const usher = follow(new UsherClient({ baseUrl: HTTP, getToken: async () => 'rubbish' }));
    show(await usher.connect().catch(({ why }) => why));
    """
    (why,) = node(USHER_JS + script, installation)
    assert why == {"code": 4401, "reason": "unauthenticated", "retry": "login"}


@with_node
def test_usher_js_renews_its_token_on_the_live_socket(socket_kind: str) -> None:
    script = """
    let token = TOKEN, refresh = process.env.REFRESH, renewals = 0;
    const getToken = async ({ renew }) => {
      if (renew) {
        const answer = await fetch(new URL('/api/auth/refresh', HTTP), {
          method: 'POST', headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify({ refresh_token: refresh }) });
        ({ access_token: token, refresh_token: refresh } = await answer.json());
        renewals++;
      }
      return token;
    };
    const usher = follow(new UsherClient({ baseUrl: HTTP, getToken }));
    const { session_id, expires_at } = await usher.connect();
    await new Promise((resolve) => {
      const look = setInterval(() => {
        if (Date.now() / 1000 > expires_at + 0.2) { clearInterval(look); resolve(); }
      }, 20);
    });
    await usher.request('heartbeat');
    show(usher.session.session_id === session_id);
    show(renewals);
    usher.close();
    """
    with quiet_usher(socket_kind, ACCESS_TOKEN_TTL_SECONDS=3) as server:
        client = sign_up(server)
        variables = {"TOKEN": client.token, "REFRESH": client.refresh_token}
        same, renewals = node(USHER_JS + script, server, **variables)
        assert same is True
        assert renewals >= 1
