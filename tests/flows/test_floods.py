"""Floods, and many slow or half-open connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.flows.target import (
    WIDE_BOUND_SECONDS,
    ada,
    canary,
    heartbeat_seconds,
    many_files,
    nothing_kept,
    target,
)
from tests.support.flood import Flood
from tests.support.raw import (
    CLOSE,
    PING,
    TEXT,
    RawClient,
    by_header,
    event,
    frame,
    handshake,
    joined,
)
from tests.support.server import PATIENCE, Client, Usher, sign_up

__all__ = ["ada", "canary", "nothing_kept", "target"]

pytestmark = pytest.mark.slow


def test_a_flood_of_pings_by_one_socket_does_not_block_another(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    def flood() -> None:
        with joined(target, by_header(ada.token)) as client:
            assert 500 <= Flood(client, frame(b"", PING) * 5000).run(3.0).pongs < 1000

    assert _slowest_heartbeat_during(canary, flood) < WIDE_BOUND_SECONDS


def test_a_flood_of_events_by_one_socket_does_not_block_another(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    burst = b"".join(event("heartbeat", n) for n in range(2000))

    def flood() -> None:
        with joined(target, by_header(ada.token)) as client:
            for _ in range(20):
                client.send(burst)
                assert [client.event()["id"] for _ in range(2000)] == list(range(2000))

    assert _slowest_heartbeat_during(canary, flood) < WIDE_BOUND_SECONDS


def test_a_flood_of_refreshes_by_one_socket_does_not_block_another(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    burst = b"".join(event("token-refresh", n, {"token": ada.token}) for n in range(500))

    def flood() -> None:
        with joined(target, by_header(ada.token)) as client:
            client.send(burst)
            assert [client.event()["id"] for _ in range(500)] == list(range(500))

    assert _slowest_heartbeat_during(canary, flood) < WIDE_BOUND_SECONDS


def test_a_flood_of_empty_fragments_does_not_block_another(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    def flood() -> None:
        with joined(target, by_header(ada.token)) as client:
            client.send(frame(b"", TEXT, final=False))
            assert Flood(client, frame(b"", 0, final=False) * 100_000).run(3.0).sent > 0

    assert _slowest_heartbeat_during(canary, flood) < WIDE_BOUND_SECONDS


def test_a_frame_a_byte_at_a_time_does_not_block_another(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    def drip() -> None:
        with joined(target, by_header(ada.token)) as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in event("heartbeat", "x" * 5000):
                client.send(bytes((byte,)))
            assert client.event()["ok"] is True

    assert _slowest_heartbeat_during(canary, drip) < WIDE_BOUND_SECONDS


def _slowest_heartbeat_during(canary: RawClient, attack: Any) -> float:
    """The canary asks again and again until the attack, in a thread, is over."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attack)
        waited = [heartbeat_seconds(canary)]
        while not running.done():
            waited.append(heartbeat_seconds(canary))
        running.result(timeout=PATIENCE)
    return max(waited)


def test_hundreds_of_incomplete_handshakes_lock_no_client_out(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    with many_files(), ExitStack() as stack:
        slow = [stack.enter_context(RawClient(target)) for _ in range(300)]
        for number, client in enumerate(slow):
            client.send(handshake()[: number % 150])
        for _ in range(5):
            for client in slow[::7]:
                client.send(b"x")
            with joined(target, by_header(ada.token)) as client:
                client.lives()
            assert heartbeat_seconds(canary) < WIDE_BOUND_SECONDS


def test_five_hundred_unauthenticated_clients_lock_no_user_out(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    with many_files(), ExitStack() as stack:
        unauthenticated = [stack.enter_context(RawClient(target)) for _ in range(500)]
        for socket in unauthenticated:
            socket.upgrade()
            socket.send(event("user-join", None, {"auth": {"token": ada.token}})[:-5])
        with joined(target, by_header(ada.token)) as client:
            client.lives()
        assert heartbeat_seconds(canary) < WIDE_BOUND_SECONDS


@pytest.mark.parametrize("at", ["connect", "head", "handshake", "join", "joined", "frame"])
def test_a_reset_connection_leaves_nothing(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None, at: str
) -> None:
    join = event("user-join", 1, {"auth": {"token": ada.token}})
    sent = {
        "connect": b"",
        "head": handshake()[:90],
        "handshake": handshake("/ws", by_header(ada.token)),
        "join": handshake() + join,
        "joined": handshake("/ws", by_header(ada.token)) + event("heartbeat", 1) * 50,
        "frame": handshake("/ws", by_header(ada.token)) + event("heartbeat", 1)[:-3],
    }[at]
    for _ in range(40):
        with RawClient(target) as client:
            client.send(sent)
            linger = struct.pack("ii", 1, 0)  # close() sends a reset
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def test_a_half_closed_connection_is_closed(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    for sent in (b"", handshake()[:50], handshake(), handshake("/ws", by_header(ada.token))):
        with RawClient(target) as client:
            client.send(sent)
            client.socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while client.socket.recv(65536):
                    pass


def test_closing_from_both_sides_at_once_leaves_nothing(
    target: Usher, canary: RawClient, nothing_kept: None
) -> None:
    close = frame((1000).to_bytes(2, "big"), CLOSE)
    for _ in range(4):
        client = sign_up(target)
        for _ in range(5):
            with joined(target, by_header(client.token)) as one, RawClient(target) as two:
                two.send(handshake("/ws", by_header(client.token)))
                one.send(close)
                assert one.ending().code in (1000, 4409)
                assert two.response().status == 101
        with joined(target, by_header(client.token)) as one:
            logout = threading.Thread(target=client.post, args=("/api/auth/logout",))
            logout.start()
            one.send(close)
            assert one.ending().code in (1000, 4410)
            logout.join()


def test_header_bombs_are_refused(
    target: Usher, ada: Client, canary: RawClient, nothing_kept: None
) -> None:
    one_mebibyte = b"a" * 2**20
    for bomb in (
        handshake(headers=[("X-Long", "a" * 100_000)]),
        handshake(headers=[(f"X-{n}", "a") for n in range(5000)]),
        handshake(headers=[("Cookie", "a=b; " * 20_000)]),
        handshake(headers=[("Sec-WebSocket-Protocol", "usher.v1, " * 10_000)]),
        b"GET /ws?" + one_mebibyte + b" HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n" + one_mebibyte,
        one_mebibyte,
    ):
        with RawClient(target) as client:
            received = b""
            with contextlib.suppress(ConnectionError):
                client.send(bomb)
                while data := client.socket.recv(65536):
                    received += data
        assert b" 101 " not in received, bomb[:80]
        assert heartbeat_seconds(canary) < WIDE_BOUND_SECONDS


def test_headers_at_their_limit_are_read(target: Usher, ada: Client, canary: RawClient) -> None:
    for headers in (
        [("Cookie", "a=b; " * 2000)],
        [("Sec-WebSocket-Protocol", "usher.v1, " * 1000)],
        [(f"X-{n}", "a") for n in range(900)],
    ):
        began = time.monotonic()
        with joined(target, [*headers, *by_header(ada.token)]) as client:
            client.lives()
        assert time.monotonic() - began < WIDE_BOUND_SECONDS


@pytest.mark.parametrize("digits", [10, 4301, 9000])
@pytest.mark.parametrize("path", ["/ws", "/healthz", "/api/auth/login"])
def test_a_body_of_absurd_length_is_refused(
    target: Usher, canary: RawClient, path: str, digits: int
) -> None:
    with RawClient(target) as client:
        client.send(handshake(path, [("Content-Length", "9" * digits)]))
        assert client.response().status in (400, 413)


@pytest.mark.parametrize("method", ["HEAD", "TRACE", "CONNECT", "PATCH", "X" * 500])
def test_odd_methods_give_no_traceback(target: Usher, canary: RawClient, method: str) -> None:
    for path in ("/ws", "/healthz"):
        for length in ("0", "99999999"):
            with RawClient(target) as client:
                request = handshake(path, [("Content-Length", length)])
                client.send(request.replace(b"GET", method.encode(), 1))
                with contextlib.suppress(EOFError, ConnectionError):
                    assert client.head().status != 101
