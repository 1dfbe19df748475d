"""Attacks by somebody who knows the contract. The server must refuse without saying which part was
wrong, log no traceback, store nothing, and continue to serve others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import resource
import secrets
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.protocol_errors import BY_TORNADO, LIVES_THROUGH_TORNADO, PROTOCOL_ERRORS
from tests.support.raw import (
    CLOSE,
    SECRET,
    RawClient,
    assert_quiet,
    by_header,
    by_subprotocol,
    claims_of,
    ending_of,
    event,
    forged,
    frame,
    handshake,
    is_utf8,
    joined,
    quiet_usher,
)
from tests.support.server import Client, Usher, new_token, sign_up, usher, wait_until

WIDE_BOUND_SECONDS = 3.0
"""What anybody else's heartbeat may take while somebody attacks, on a busy machine."""


@pytest.fixture(scope="module")
def target(socket_kind: str) -> Iterator[Usher]:
    """Its limits are wide: what holds without them holds with them; test_message_rate.py and
    test_unjoined.py have those."""
    wide = {"MESSAGE_RATE": 100_000, "MAX_UNJOINED_PER_ADDRESS": 5000, "MAX_SOCKETS_PER_USER": 5000}
    settings = {"JWT_SECRETS": SECRET, "JOIN_TIMEOUT_SECONDS": 60, **wide}
    with quiet_usher(socket_kind, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(target: Usher) -> Client:
    return sign_up(target)


@pytest.fixture
def canary(target: Usher, ada: Client) -> Iterator[RawClient]:
    """An innocent socket that has to be served before, meanwhile and afterwards."""
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        yield client
        client.lives()
    assert_quiet(target.log)


def open_files(server: Usher) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.fixture
def nothing_kept(target: Usher) -> Iterator[None]:
    """Every connection of the test has to be let go of on the server's side as well."""
    before = open_files(target)
    yield
    # Two more: the database pool and Redis may have opened a connection meanwhile.
    wait_until(lambda: open_files(target) <= before + 2)


def heartbeat_seconds(client: RawClient) -> float:
    began = time.monotonic()
    client.lives()
    return time.monotonic() - began


# ---- replays ---------------------------------------------------------------------------------


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """Allow this process two thousand files, for the time of a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _first_event(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> str:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    _, length = await reader.readexactly(2)
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    first = json.loads(await reader.readexactly(length))
    return str(first["data"]["reason"] if first["event"] == "closing" else first["event"])


async def race(server: Usher, count: int, request: bytes) -> Counter[str]:
    """So many sockets, all connected before the first of them speaks."""
    pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
    try:
        tasks = (_first_event(*pair, request) for pair in pairs)
        return Counter(await asyncio.wait_for(asyncio.gather(*tasks), 60))
    finally:
        for _, writer in pairs:
            writer.close()
        for _, writer in pairs:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.gen_test(timeout=90)
async def test_a_thousand_parallel_replays_of_one_ticket_give_exactly_one_join(
    target: Usher, ada: Client, nothing_kept: None
) -> None:
    request = handshake(f"/ws?ticket={ada.ticket()}")
    with many_files():
        assert await race(target, 1000, request) == {"joined": 1, "unauthenticated": 999}


@pytest.mark.gen_test(timeout=90)
async def test_a_ticket_raced_by_query_and_user_join_is_accepted_once(
    target: Usher, ada: Client, nothing_kept: None
) -> None:
    ticket = ada.ticket()
    by_query = handshake(f"/ws?ticket={ticket}")
    by_message = handshake() + event("user-join", None, {"auth": {"token": ticket}})
    outcomes = await asyncio.gather(race(target, 50, by_query), race(target, 50, by_message))
    assert outcomes[0] + outcomes[1] == {"joined": 1, "unauthenticated": 99}


@pytest.mark.gen_test(timeout=90)
async def test_of_a_hundred_sockets_with_one_token_one_stays_open(
    target: Usher, ada: Client, nothing_kept: None
) -> None:
    token = new_token(ada)
    outcomes = await race(target, 100, handshake("/ws", by_subprotocol(token)))
    # `joined` leaves a moment after the 101: who is replaced within it hears only that.
    assert outcomes.keys() <= {"joined", "replaced"}
    assert outcomes.total() == 100
    assert outcomes["joined"] >= 1
    with joined(target, by_subprotocol(token)) as last:
        last.lives()


def test_of_many_sockets_with_one_token_only_the_last_stays_open(
    target: Usher, ada: Client
) -> None:
    token = new_token(ada)
    with ExitStack() as stack:
        holders = [stack.enter_context(joined(target, by_header(token))) for _ in range(20)]
        for holder in holders[:-1]:
            assert holder.ending().code == 4409
        holders[-1].lives()


# ---- forged tokens ---------------------------------------------------------------------------


def segments(header: Any, payload: Any, signature: str = "") -> str:
    def encoded(part: Any) -> str:
        text = part if isinstance(part, bytes) else json.dumps(part).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    return f"{encoded(header)}.{encoded(payload)}.{signature}"


def signed(header: Any, payload: Any, secret: str = SECRET) -> str:
    """A token signed with the real secret, whatever stands in it."""
    unsigned = segments(header, payload).rpartition(".")[0]
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    mac = key.sign(unsigned.encode(), secret.encode())
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def forgeries(token: str) -> dict[str, str]:
    """Tokens that must not open anything, by what is wrong with them."""
    header, payload = jwt.get_unverified_header(token), claims_of(token)
    now, other = time.time(), secrets.token_urlsafe(16)
    head, body, tail = token.split(".")
    swapped = signed({**header, "kid": "another-key-0000"}, payload)
    twin = signed({**header, "kid": header["kid"]}, payload, "y" * 40)
    return {
        "alg none": segments({**header, "alg": "none"}, payload),
        "alg None": segments({**header, "alg": "None"}, payload, "x"),
        "alg none, signed": signed({**header, "alg": "none"}, payload),
        "alg HS512": jwt.encode(payload, SECRET * 2, "HS512", headers=header),
        "alg HS384, signed by HS256": signed({**header, "alg": "HS384"}, payload),
        "alg RS256": signed({**header, "alg": "RS256"}, payload),
        "no alg": signed({k: v for k, v in header.items() if k != "alg"}, payload),
        "typ JWT": forged(token, headers={"typ": "JWT"}),
        "typ rt+jwt": forged(token, headers={"typ": "rt+jwt"}),
        "no typ": signed({"alg": "HS256", "kid": header["kid"]}, payload),
        "wrong aud": forged(token, aud="somebody"),
        "aud as a list": forged(token, aud=[payload["aud"]]),
        "no aud": forged(token, aud=None),
        "wrong iss": forged(token, iss="https://evil.example"),
        "no iss": forged(token, iss=None),
        "wrong secret": forged(token, secret="z" * 40),
        "empty secret": signed(header, payload, ""),
        "unknown kid": swapped,
        "own kid, other secret": twin,
        "kid of a path": signed({**header, "kid": "../../dev/null"}, payload, ""),
        "kid of SQL": signed({**header, "kid": "' OR 1=1 --"}, payload),
        "jku": signed({**header, "jku": "https://evil.example/keys"}, payload),
        "jwk": signed({**header, "jwk": {"kty": "oct", "k": "eHh4"}}, payload),
        "crit": signed({**header, "crit": ["exp"]}, payload),
        "from the future": forged(token, iat=now + 3600, exp=now + 3700),
        "not before": forged(token, nbf=now + 3600),
        "lives too long": forged(token, exp=now + 10 * 365 * 86400),
        "no exp": forged(token, exp=None),
        "exp as text": forged(token, exp=str(payload["exp"])),
        "exp true": forged(token, exp=True),
        "exp without end": signed(header, json.dumps(payload | {"exp": 1e308}).encode()),
        "exp NaN": signed(header, json.dumps(payload | {"exp": float("nan")}).encode()),
        "no sub": forged(token, sub=None),
        "no sid": forged(token, sid=None),
        "no jti": forged(token, jti=None),
        "sub of Redis": forged(token, sub="x}:sockets"),
        "sub with a line": forged(token, sub="x\r\nSET a b"),
        "sid of Redis": forged(token, sid="*"),
        "sub as a number": signed(header, payload | {"sub": 1}),
        "unknown user": forged(token, sub=other),
        "unknown session": forged(token, sid=other),
        "unknown user and session": forged(token, sub=other, sid=other),
        "another role": forged(token, role="user" if payload["role"] == "admin" else "admin"),
        "a role that is none": forged(token, role="root"),
        "tampered payload": f"{head}.{body[:-6]}AAAAAA.{tail}",
        "tampered signature": f"{head}.{body}.{'A' * 43}",
        "other spelling of the signature": f"{head}.{body}.{tail[:-1]}{_neighbour(tail[-1])}",
        "padded": f"{token}=",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{token}.x",
        "empty": "",
        "dots": "..",
        "huge": forged(token, extra="x" * 3500),
        "garbage": secrets.token_urlsafe(300),
        "payload a list": signed(header, [1]),
        "payload no JSON": signed(header, b"{"),
        "header no JSON": signed(b"\xff\xfe", payload),
        "deep": signed(header, b'{"a":' * 400 + b"1" + b"}" * 400),
    }


def _neighbour(letter: str) -> str:
    """A letter that decodes to the same 4 bits, where the last two do not count."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) ^ 1]


NAMES = sorted(
    forgeries(
        forged(
            jwt.encode({"role": "user", "exp": 9e9, "aud": "usher"}, SECRET, headers={"kid": "k"})
        )
    )
)


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_token_is_refused_by_every_method(target: Usher, ada: Client, name: str) -> None:
    token = forgeries(str(ada.token))[name]
    with RawClient(target) as client:
        client.send(handshake("/ws", by_header(token)))
        response = client.response()
        assert response.status == 401
        # The same words, whatever was wrong.
        assert response.problem == {
            "status": 401,
            "title": "Sign in to continue.",
            "code": "unauthenticated",
        }
    if " " not in token and "," not in token:
        assert ending_of(target, by_subprotocol(token)).code == 4401
    cookie = [("Cookie", f"access_token={token or 'x'}"), ("Origin", target.url)]
    assert ending_of(target, cookie).code == 4401
    if len(token) < 4000:
        assert ending_of(target, target=f"/ws?ticket={token}").code == 4401
    end = ending_of(target, then=event("user-join", 1, {"auth": {"token": token}}))
    assert end.code == 4401
    assert end.events[0]["error"]["code"] == "unauthenticated"


def test_a_forged_token_does_not_take_over_an_open_socket(target: Usher, ada: Client) -> None:
    with joined(target, by_header(ada.token)) as client:
        for name, token in forgeries(str(ada.token)).items():
            reply = client.ask("token-refresh", {"token": token})
            expected = ("unauthenticated", "identity_mismatch")
            assert reply["ok"] is False, name
            assert reply["error"]["code"] in expected, name
        client.lives()


@pytest.mark.parametrize("length", [4097, 8000, 60_000])
def test_a_huge_token_costs_no_more_than_a_refusal(target: Usher, ada: Client, length: int) -> None:
    token = "a" * length
    with joined(target, by_header(ada.token)) as client:
        refused = client.ask("token-refresh", {"token": token})
        assert refused["error"]["code"] == "unauthenticated"
    then = event("user-join", None, {"auth": {"token": token}})
    assert ending_of(target, then=then).code == (4401 if length < 8100 else 1009)
    assert ending_of(target, target="/ws?ticket=t." + "a" * 3900).code == 4401


def test_a_genuine_token_is_still_taken(target: Usher, ada: Client) -> None:
    """Else all of the above would prove nothing."""
    with joined(target, by_header(forged(ada.token))) as client:
        assert client.joined["user"]["id"] == ada.user["id"]


# ---- frames that nobody would send -----------------------------------------------------------


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
EVENTS = st.sampled_from(["heartbeat", "token-refresh", "user-join"]) | st.text(max_size=12)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={"event": EVENTS | JSON, "id": st.text(max_size=12) | st.integers() | JSON}
    | {"data": JSON | st.fixed_dictionaries({"auth": JSON, "token": JSON})},
)
SLOW_IS_FINE = settings(suppress_health_check=list(HealthCheck), max_examples=80)


@SLOW_IS_FINE
@given(st.lists(ENVELOPES, min_size=1, max_size=6))
def test_any_json_gets_its_reply_or_closes_with_4400(
    target: Usher, ada: Client, canary: RawClient, bodies: list[dict[str, Any]]
) -> None:
    texts = [json.dumps(body).encode() for body in bodies]
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        client.send(b"".join(map(frame, texts)) + frame((1000).to_bytes(2, "big"), CLOSE))
        end = client.ending()
    assert end.code in (1000, 4400)
    replies = [repr(e["id"]) for e in end.events if e["event"] == "reply"]
    asked = [repr(json.loads(t).get("id")) for t in texts if "id" in json.loads(t)]
    # In order, each once, and all of them unless one of them was no frame.
    assert replies == asked[: len(replies)]
    assert end.code == 4400 or len(replies) == len(asked)
    canary.lives()


@SLOW_IS_FINE
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_text_message_is_answered_or_closes_with_4400(
    target: Usher, ada: Client, canary: RawClient, payload: bytes
) -> None:
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        client.send(frame(payload) + frame(b"", CLOSE))
        ends = {1005, 4400} | ({1006} if target.through_tornado and not is_utf8(payload) else set())
        assert client.ending().code in ends
    canary.lives()


@SLOW_IS_FINE
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5),
    is_joined=st.booleans(),
)
def test_any_bytes_behind_the_handshake_end_in_a_close(
    target: Usher, ada: Client, canary: RawClient, chunks: list[bytes], is_joined: bool
) -> None:
    with RawClient(target) as client:
        client.upgrade("/ws", by_header(ada.token) if is_joined else [])
        with contextlib.suppress(OSError):
            for chunk in chunks:
                client.send(chunk)
            client.socket.shutdown(socket.SHUT_WR)
        end = client.ending()
    assert end.code in (1000, 1002, 1005, 1006, 1007, 1009, 4400, 4401) or end.code >= 3000
    canary.lives()


FRAMES = st.builds(
    frame,
    st.binary(max_size=130),
    st.integers(0, 15),
    final=st.booleans(),
    masked=st.sampled_from([True, True, True, False]),
)


@SLOW_IS_FINE
@given(st.lists(FRAMES, min_size=1, max_size=8))
def test_any_frames_end_in_a_close(
    target: Usher, ada: Client, canary: RawClient, frames: list[bytes]
) -> None:
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        with contextlib.suppress(OSError):
            client.send(b"".join(frames))
            client.socket.shutdown(socket.SHUT_WR)
        client.ending()
    canary.lives()


@SLOW_IS_FINE
@given(st.binary(max_size=400), st.integers(0, 220))
def test_any_bytes_for_a_handshake_end_the_connection(
    target: Usher, ada: Client, canary: RawClient, noise: bytes, cut: int
) -> None:
    with RawClient(target) as client:
        with contextlib.suppress(OSError):
            client.send(handshake()[:cut] + noise)
            client.socket.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := client.socket.recv(65536):
                received += data
    assert received == b"" or received.startswith(b"HTTP/1.1 ")
    canary.lives()


def expected_of(target: Usher, name: str) -> int:
    if not target.through_tornado:
        return 1002
    return 1005 if name in LIVES_THROUGH_TORNADO else BY_TORNADO[name]


@pytest.mark.parametrize("name", PROTOCOL_ERRORS)
def test_what_breaks_rfc_6455_closes_with_1002(
    target: Usher, ada: Client, canary: RawClient, name: str
) -> None:
    for headers in ([], by_header(ada.token)):
        then = PROTOCOL_ERRORS[name]
        if target.through_tornado and name in LIVES_THROUGH_TORNADO:
            then += frame(b"", CLOSE)
        end = ending_of(target, headers, then=then)
        assert end.code == expected_of(target, name)
        if target.through_tornado:  # `joined` leaves a moment after the 101: here, not any more
            return
        assert [e["event"] for e in end.events] == ["joined"] * bool(headers)


def test_a_close_reason_that_is_not_utf_8_closes_with_1007(target: Usher) -> None:
    end = ending_of(target, then=frame(struct.pack("!H", 1000) + b"\xff", CLOSE))
    # Tornado ends it without a close frame.
    assert end.code == (1006 if target.through_tornado else 1007)


def test_compression_is_offered_in_vain(target: Usher, ada: Client) -> None:
    offer = "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"
    with RawClient(target) as client:
        headers = [*by_header(ada.token), ("Sec-WebSocket-Extensions", offer)]
        assert "sec-websocket-extensions" not in client.upgrade("/ws", headers).headers
        assert client.event()["event"] == "joined"
        client.lives()


# ---- what an attacker may learn --------------------------------------------------------------


def test_no_token_ticket_or_address_is_in_the_log() -> None:
    with usher("sqlite") as server:
        email = "somebody.special@example.org"
        client = sign_up(server, email=email)
        ticket, token = client.ticket(), str(client.token)
        for headers, address in (
            (by_header(token), "/ws"),
            (by_subprotocol(token + "x"), "/ws"),
            (by_header(token + "x"), "/ws"),
            ([], f"/ws?ticket={ticket}"),
            ([], f"/ws?ticket={ticket}"),
            ([], f"/ws?ticket={token}"),
            ([], f"/ws/?ticket={token}&x={ticket}"),
            ([("Cookie", f"access_token={token}x"), ("Origin", server.url)], "/ws"),
            ([("Origin", f"http://{ticket}.example")], "/ws"),
            ([("Sec-WebSocket-Version", token)], "/ws"),
        ):
            with RawClient(server) as socket_:
                socket_.send(handshake(address, headers))
                socket_.response()
        for sent in (
            event("user-join", 1, {"auth": {"token": token + "x"}}),
            event(token, 1),
            frame(token.encode()),
        ):
            ending_of(server, then=sent)
        server.end()
        parts = (ticket, ticket[2:], token, token.split(".")[1], token.split(".")[2], email)
        for secret in parts:
            assert secret not in server.log
        assert "refused" in server.log  # the refusals are logged, without the refused input


def test_random_garbage_from_a_hundred_sides_at_once_is_outlived(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    def attack(seed: int) -> None:
        start = handshake("/ws", by_header(ada.token)) if seed % 3 else b""
        with RawClient(target) as client, contextlib.suppress(OSError):
            client.send(start + os.urandom(2000))
            client.socket.shutdown(socket.SHUT_WR)
            while client.socket.recv(65536):
                pass

    with ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(attack, range(300)))) == 300
    assert heartbeat_seconds(canary) < WIDE_BOUND_SECONDS
