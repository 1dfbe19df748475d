"""static/usher.js: permanent errors are reported at once, others are retried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.node import Node, Scripted, closed_port, run_script, scripted_server
from tests.support.server import Usher, sign_up

FOREVER = 600_000
"""Milliseconds: a pause that no test waits for."""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with closing(Node()) as running:
        yield running


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


def shown(script: str, *, websocket: bool = True, **variables: str) -> Any:
    """What a script shows with its one `console.log`."""
    prelude = "const { UsherClient } = await import(`${process.env.USHER_JS}/usher.js`);\n"
    status, out, err = run_script(prelude + script, websocket=websocket, **variables)
    assert status == 0, err
    return json.loads(out)


# ---- what can never work ---------------------------------------------------------------------

REFUSED = """
const refused = await new UsherClient(OPTIONS).connect().catch((error) => error);
console.log(JSON.stringify({ code: refused.code, message: refused.message,
  retry: refused.why?.retry, cause: refused.cause?.message }));
"""


def test_without_a_websocket_connecting_says_so_at_once() -> None:
    options = "{ baseUrl: 'http://127.0.0.1:9', getToken: async () => 't' }"
    script = "delete globalThis.WebSocket;\n" + REFUSED.replace("OPTIONS", options)
    error = shown(script, websocket=False)
    assert error["code"] == "misuse"
    assert "WebSocket" in error["message"]
    assert "ws" in error["message"]


def test_without_an_address_connecting_says_so_at_once() -> None:
    error = shown(REFUSED.replace("OPTIONS", "{ getToken: async () => 't' }"))
    assert (error["code"], "baseUrl" in error["message"]) == ("misuse", True)


def test_without_fetch_connecting_and_refreshing_say_so_at_once() -> None:
    script = "delete globalThis.fetch;\n" + REFUSED.replace("OPTIONS", "{ baseUrl: 'http://h' }")
    error = shown(script)
    assert (error["code"], "fetch" in error["message"]) == ("misuse", True)
    script = """delete globalThis.fetch;
    const { code } = await new UsherClient({ baseUrl: 'http://h' }).refresh().catch((e) => e);
    console.log(JSON.stringify(code));
    """
    assert shown(script) == "misuse"


@pytest.mark.parametrize(
    "options",
    [
        "{ baseUrl: 'not an address' }",
        "{ baseUrl: 'ftp://example.org' }",
        "{ baseUrl: 'https://example.org/?room=1' }",
        "{ baseUrl: 'https://example.org/#top' }",
        "{ baseUrl: 'https://ada:secret@example.org' }",
        "{ url: 'https://example.org' }",
        "{ getToken: 'a-token' }",
        "{ fetch: 1 }",
        "{ WebSocket: {} }",
        "{ present: 'header' }",
        "{ timeoutMs: 0 }",
        "{ heartbeatMs: 'often' }",
        "{ maxPending: NaN }",
    ],
)
def test_options_that_cannot_work_are_thrown_back(options: str) -> None:
    script = f"""let code;
    try {{ new UsherClient({options}); }} catch (error) {{ code = error.code; }}
    console.log(JSON.stringify(code ?? 'taken'));
    """
    assert shown(script) == "misuse"


def test_a_mistake_in_get_token_is_reported_with_its_cause(node: Node) -> None:
    client = node.client("http://127.0.0.1:9", {"throws": "no such variable"})
    error = client.result("connect")
    assert (error["code"], error["cause"]) == ("misuse", "no such variable")
    assert "no such variable" in error["message"]
    assert error["why"] == {"code": 4400, "reason": "misuse", "retry": "never"}
    assert client.states == ["connecting", "closed"]


@pytest.mark.parametrize("token", [None, ""])
def test_a_get_token_that_gives_none_is_a_mistake(node: Node, token: str | None) -> None:
    client = node.client("http://127.0.0.1:9", token)
    error = client.result("connect")
    assert (error["code"], "401" in error["message"]) == ("misuse", True)


def test_a_token_that_cannot_be_a_subprotocol_is_a_mistake(node: Node) -> None:
    client = node.client("http://127.0.0.1:9", "two words")
    error = client.result("connect")
    assert error["code"] == "misuse"
    assert error["cause"]


def test_a_mistake_is_reported_even_if_the_promise_is_not_handled() -> None:
    script = """const { UsherClient } = await import(`${process.env.USHER_JS}/usher.js`);
    const getToken = () => { throw new Error('no such variable'); };
    new UsherClient({ baseUrl: 'http://127.0.0.1:9', getToken }).connect();
    """
    status, _, err = run_script(script)
    assert status == 1
    assert "no such variable" in err


# ---- what is only for a moment ---------------------------------------------------------------


def test_options_that_have_worked_are_not_given_up_for_one_mistake(
    node: Node, scripted: Scripted
) -> None:
    tokens = ("one", {"throws": "the store is locked"}, "two")
    client = node.client(scripted.url, *tokens)
    client.call("connect")
    link = scripted.accept().join()
    client.state("joined")
    link.drop()
    client.state("waiting")
    state = client.state("waiting")
    assert (state["reason"], state["retry"]) == ("misuse", "backoff")
    assert "the store is locked" in state["error"]
    scripted.accept().join()
    client.state("joined")
    client.result("close")


NETWORK = {
    "fetch to nobody": "() => fetch(NOBODY)",
    "a proxy's page for JSON": "async () => JSON.parse('<html>')",
    "aborted": "() => fetch(NOBODY, { signal: AbortSignal.abort() })",
    "timed out": "() => { throw new DOMException('late', 'TimeoutError'); }",
    "a socket's": "() => { throw Object.assign(new Error('x'), { code: 'ECONNRESET' }); }",
    "axios, no answer": "() => { throw Object.assign(new Error('x'), { code: 'ERR_NETWORK' }); }",
    "axios, 502": "() => { throw Object.assign(new Error('x'), { response: { status: 502 } }); }",
    "never ends": "() => new Promise(() => {})",
    "Chromium's": "() => { throw new TypeError('Failed to fetch'); }",
    "Firefox's": "() => { throw new TypeError('NetworkError when attempting to fetch resource.') }",
    "Safari's": "() => { throw new TypeError('Load failed'); }",
    "React Native's": "() => { throw new TypeError('Network request failed'); }",
}


@pytest.mark.parametrize("get_token", NETWORK.values(), ids=NETWORK)
def test_a_failing_network_is_tried_again(get_token: str) -> None:
    script = f"""const NOBODY = process.env.NOBODY;
    const usher = new UsherClient({{ baseUrl: NOBODY, getToken: {get_token}, timeoutMs: 200 }});
    usher.connect();
    usher.addEventListener('state', ({{ detail: {{ name, retry, error }} }}) => {{
      if (name === 'connecting') return;
      console.log(JSON.stringify([name, retry, error instanceof Error]));
      process.exit();
    }});
    await new Promise(() => setTimeout(() => {{}}, 20_000));
    """
    nobody = f"http://127.0.0.1:{closed_port()}"
    assert shown(script, NOBODY=nobody) == ["waiting", "backoff", True]


REDEPLOY = """
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
const { UsherClient } = await import(`${process.env.USHER_JS}/usher.js`);
const { HTTP, TOKEN, ANSWER } = process.env;
const [status, type, body] = JSON.parse(ANSWER);
let away = 3; // answers that come of the proxy itself
const { port: up } = new URL(HTTP);
const proxy = createServer((asked, answer) => {
  if (away-- > 0) return answer.writeHead(status, { 'Content-Type': type }).end(body);
  const { method, url, headers } = asked;
  const through = request({ port: up, method, path: url, headers: { ...headers,
    authorization: `Bearer ${TOKEN}` } }, (got) => {
    answer.writeHead(got.statusCode, got.headers);
    got.pipe(answer);
  });
  asked.pipe(through);
}).on('upgrade', (asked, socket) => {
  const through = connect(up, '127.0.0.1', () => {
    const lines = asked.rawHeaders.map((text, n) => text + (n % 2 ? '\\r\\n' : ': ')).join('');
    through.write(`GET ${asked.url} HTTP/1.1\\r\\n${lines}\\r\\n`);
    socket.pipe(through).pipe(socket);
  });
  socket.on('error', () => {});
  through.on('error', () => {});
}).listen(0, '127.0.0.1', async () => {
  const usher = new UsherClient({ baseUrl: `http://127.0.0.1:${proxy.address().port}`,
    backoffMs: 20 });
  const states = [];
  usher.addEventListener('state', ({ detail: { name } }) => states.push(name));
  const { user } = await usher.connect();
  console.log(JSON.stringify({ id: user.id, states }));
  process.exit();
});
"""
PAGE = "<!doctype html><title>Back soon</title>"
NOT_USHERS = {
    "404 page": (404, "text/html", PAGE),
    "408 page": (408, "text/html", PAGE),
    "502 page": (502, "text/html", PAGE),
    "401 page": (401, "text/html", PAGE),
    "403 page": (403, "text/html", PAGE),
    "200 page": (200, "text/html", PAGE),
    "204": (204, "text/plain", ""),
    "200 of another API": (200, "application/json", '{"status": "ok"}'),
    "400 of another API": (400, "application/json", '{"code": "bad_request"}'),
    "problem without a code": (403, "application/problem+json", '{"title": "Forbidden"}'),
    "problem of another API": (404, "application/problem+json", '{"code": "no_such_route"}'),
}


@pytest.mark.parametrize("answer", NOT_USHERS.values(), ids=NOT_USHERS)
def test_an_answer_that_is_not_ushers_own_ends_no_client(
    server: Usher, answer: tuple[int, str, str]
) -> None:
    ada = sign_up(server)
    assert ada.token is not None
    status, out, err = run_script(
        REDEPLOY, HTTP=server.url, TOKEN=ada.token, ANSWER=json.dumps(answer)
    )
    assert status == 0, err
    found = json.loads(out)
    assert found["id"] == ada.user["id"]
    assert found["states"] == ["connecting", "waiting"] * 3 + ["connecting", "joined"]


USHERS = {
    "unauthenticated": (401, "login"),
    "origin_refused": (403, "never"),
    "bad_request": (400, "never"),
}


@pytest.mark.parametrize(("code", "means"), USHERS.items())
def test_an_answer_of_ushers_own_does(server: Usher, code: str, means: tuple[int, str]) -> None:
    status, retry = means
    script = REDEPLOY.replace("away = 3", "away = Infinity").replace(
        "const { user } = await usher.connect();",
        """const { why } = await usher.connect().catch((error) => error);
        console.log(JSON.stringify({ why, states })); process.exit();
        const user = {};""",
    )
    problem = (status, "application/problem+json", json.dumps({"code": code, "title": "t"}))
    done, out, err = run_script(script, HTTP=server.url, TOKEN="none", ANSWER=json.dumps(problem))
    assert done == 0, err
    found = json.loads(out)
    assert found["why"]["retry"] == retry
    assert found["states"] == ["connecting", "closed"]


# ---- where the server is -----------------------------------------------------------------------


@pytest.mark.parametrize(("below", "path"), [("/usher", "/usher/ws"), ("/a/b/", "/a/b/ws"),
                                             ("", "/ws")])  # fmt: skip
def test_a_server_below_a_path_is_found_there(
    node: Node, scripted: Scripted, below: str, path: str
) -> None:
    client = node.client(scripted.url + below)
    client.call("connect")
    link = scripted.accept().join()
    client.state("joined")
    assert link.path == path
    client.result("close")


def test_an_address_may_be_that_of_the_socket(node: Node, scripted: Scripted) -> None:
    client = node.client(scripted.url.replace("http", "ws"))
    client.call("connect")
    scripted.accept().join()
    client.state("joined")
    client.result("close")


def test_refresh_asks_get_token_where_there_is_one(node: Node, scripted: Scripted) -> None:
    client = node.client(scripted.url, "one")
    call = client.call("refresh")
    assert client.next("token")["detail"] == {"renew": True, "token": "one"}
    assert client.outcome(call) is None
    assert scripted.waiting == 0
