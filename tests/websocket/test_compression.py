"""permessage-deflate on a real server, with Python's websockets as the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate

from tests.support.raw import quiet_usher
from tests.support.server import PATIENCE, Client, Usher, sign_up

SETTINGS = {"COMPRESSION": "on", "MAX_COMPRESSED_SOCKETS": 2}


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    with quiet_usher("sqlite", **SETTINGS) as server:
        yield server


@pytest.fixture
def ada(server: Usher) -> Client:
    return sign_up(server)


def connect(server: Usher, ticket: str, offers: Sequence[Deflate] | None) -> websockets.connect:
    return websockets.connect(
        f"{server.ws}?ticket={ticket}", extensions=offers, compression=None, proxy=None
    )


async def event(socket: websockets.ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))


OFFERS = {
    "bare": Deflate(),
    "a window of the client": Deflate(client_max_window_bits=True),
    "no context of the client": Deflate(client_no_context_takeover=True),
    "no context of the server": Deflate(server_no_context_takeover=True),
    "a window of the server of 15": Deflate(server_max_window_bits=15),
    "a window of the server of 9": Deflate(server_max_window_bits=9),
    "all of them": Deflate(True, True, 12, 12),
}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.gen_test
async def test_whatever_a_client_offers_is_granted_right_or_left_out(
    server: Usher, ada: Client, offer: str
) -> None:
    # The client refuses an answer that does not fit its offer, so to be joined is the proof.
    ticket = await asyncio.to_thread(ada.ticket)
    async with connect(server, ticket, [OFFERS[offer]]) as socket:
        assert (await event(socket))["event"] == "joined"
        await socket.send(json.dumps({"event": "heartbeat", "id": 1, "data": "x" * 5000}))
        assert (await event(socket))["ok"] is True
        granted = [type(extension).__name__ for extension in socket.protocol.extensions]
    left_out = {"no context of the server", "all of them"}
    assert granted == ([] if offer in left_out else ["PerMessageDeflate"])


@pytest.mark.gen_test
async def test_a_message_counts_by_what_it_is_after_inflating(server: Usher, ada: Client) -> None:
    ticket = await asyncio.to_thread(ada.ticket)
    async with connect(server, ticket, [Deflate()]) as socket:
        await event(socket)
        await socket.send(json.dumps({"event": "heartbeat", "id": 1, "data": "x" * 100_000}))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await event(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.gen_test
async def test_a_socket_without_a_credential_is_not_compressed(server: Usher) -> None:
    # Its first message will carry one, and what is compressed beside other text can leak (CRIME).
    async with websockets.connect(
        server.ws, extensions=[Deflate()], compression=None, proxy=None
    ) as socket:
        assert socket.protocol.extensions == []


@pytest.mark.gen_test
async def test_no_more_sockets_are_compressed_than_are_allowed(server: Usher, ada: Client) -> None:
    granted = []
    async with _Sockets() as sockets:
        for _ in range(3):
            ticket = await asyncio.to_thread(ada.ticket)
            socket = await sockets.add(connect(server, ticket, [Deflate()]))
            granted.append(len(socket.protocol.extensions))
    assert granted == [1, 1, 0]
    metrics = (await asyncio.to_thread(ada.get, "/metrics")).text.decode()
    assert "usher_compressed_sockets" in metrics


class _Sockets:
    """Sockets that stay open until all are."""

    def __init__(self) -> None:
        self._open: list[websockets.ClientConnection] = []

    async def __aenter__(self) -> _Sockets:
        return self

    async def add(self, connecting: websockets.connect) -> websockets.ClientConnection:
        self._open.append(await connecting)
        return self._open[-1]

    async def __aexit__(self, *_: object) -> None:
        for socket in self._open:
            await socket.close()


def test_without_the_setting_nothing_is_compressed(ada: Client) -> None:
    with quiet_usher("sqlite", WEBSOCKET="tornado") as plain:
        bob = sign_up(plain)

        async def extensions() -> list[object]:
            async with connect(plain, bob.ticket(), [Deflate()]) as socket:
                return list(socket.protocol.extensions)

        assert asyncio.run(extensions()) == []
