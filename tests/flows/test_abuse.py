"""Attacks by somebody who knows the contract. The server must refuse without saying which part was
wrong, log no traceback, store nothing, and continue to serve others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

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
from tests.support.raw import (
    RawClient,
    by_header,
    by_subprotocol,
    ending_of,
    event,
    frame,
    handshake,
    joined,
)
from tests.support.server import Client, Usher, new_token, sign_up, usher

__all__ = ["ada", "canary", "nothing_kept", "target"]

# ---- replays ---------------------------------------------------------------------------------


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
