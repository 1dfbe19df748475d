"""Pings for silent sockets, and closing those that stay silent."""

from __future__ import annotations

import asyncio

import pytest

from services.sockets.keepalive import PING_SECONDS, SILENCE_SECONDS, SLICE, keep_alive
from services.websocket.frames import Opcode
from tests.support.parts import Parts, Peer, client_frame, node, open_socket
from tests.support.redis import until


async def silent_for(parts: Parts, seconds: float) -> Peer:
    """A joined socket whose peer was last heard so long ago."""
    peer = await open_socket(parts, await parts.signed_in())
    peer.client.connection.last_heard = asyncio.get_running_loop().time() - seconds
    return peer


@pytest.mark.gen_test
async def test_only_silent_sockets_are_pinged(database_url: str) -> None:
    async with node(database_url) as parts:
        silent, lively = await silent_for(parts, PING_SECONDS), await silent_for(parts, 0)
        await keep_alive(parts.hub)
        assert await silent.frame() == (Opcode.PING, b"")
        lively.client.connection.send(b"first")
        assert await lively.frame() == (Opcode.TEXT, b"first")


@pytest.mark.gen_test
async def test_an_answer_to_a_ping_is_a_sign_of_life(database_url: str) -> None:
    async with node(database_url) as parts:
        peer = await silent_for(parts, SILENCE_SECONDS - 5)
        before = peer.client.connection.last_heard
        await keep_alive(parts.hub)
        assert await peer.frame() == (Opcode.PING, b"")
        await peer.send(client_frame(Opcode.PONG))
        await until(lambda: peer.client.connection.last_heard > before)
        await keep_alive(parts.hub)
        assert peer.client.connection.is_open


@pytest.mark.gen_test
async def test_a_socket_silent_for_three_pings_is_closed_and_leaves_all_rooms(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        gone, kept = await silent_for(parts, SILENCE_SECONDS + 1), await silent_for(parts, 0)
        await keep_alive(parts.hub)
        assert list(parts.hub) == [kept.client]
        assert await gone.rest() == []
        assert await parts.pool.of_user(gone.client.session.user_id) == []
        assert parts.count("usher_closes_total", code="1006") == 1


@pytest.mark.gen_test
async def test_there_are_enough_pings_before_a_socket_is_closed() -> None:
    assert SILENCE_SECONDS > 3 * PING_SECONDS


@pytest.mark.gen_test
async def test_the_loop_runs_between_slices_and_closed_sockets_are_skipped(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        peer = await silent_for(parts, PING_SECONDS)

        class Crowd:
            """The hub's walk over more sockets than fit into one slice."""

            def __iter__(self) -> object:
                return iter([peer.client] * (SLICE + 1))

        walking = parts.context.loop.create_task(keep_alive(Crowd()))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert not walking.done(), "it has paused"
        peer.client.connection.abort()
        await walking
