"""Compressed sockets by bytes: what an attacker would try, and good frames in odd orders.

tests/websocket/test_compression.py has the same with a real client.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.raw import CLOSE, PING, PONG, TEXT, RawClient, by_header, frame, quiet_usher
from tests.support.server import Client, Usher, new_token, sign_up, wait_until

RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
OFFER = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
BEAT = json.dumps({"event": "heartbeat", "id": 1, "data": "x" * 3000}).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    with quiet_usher("sqlite", COMPRESSION="on", MESSAGE_RATE=10_000) as server:
        yield server


@pytest.fixture(scope="module")
def ada(server: Usher) -> Client:
    return sign_up(server)


class DeflatingClient(RawClient):
    """A client that has permessage-deflate."""

    def __init__(self, server: Usher) -> None:
        super().__init__(server)
        self._inflate = zlib.decompressobj(-15)
        self._deflate = zlib.compressobj(wbits=-15)
        self.granted = ""
        """Of the extension, in the server's answer."""

    def deflated(self, text: bytes) -> bytes:
        """A message as RFC 7692 section 7.2.1 has it, with what was said before as its context."""
        data = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(b"\x00\x00\xff\xff")

    def frame(self) -> tuple[int, bytes]:
        first, length = self._exactly(2)
        if length == 126:
            length = int.from_bytes(self._exactly(2), "big")
        payload = self._exactly(length)
        if first & RSV1:
            payload = self._inflate.decompress(payload + b"\x00\x00\xff\xff")
        return first & 0x0F, payload


def flagged(bits: int, one: bytes) -> bytes:
    """The same frame with reserved bits."""
    return bytes((one[0] | bits,)) + one[1:]


@contextmanager
def compressed(server: Usher, person: Client) -> Iterator[DeflatingClient]:
    """A socket that has joined and is compressed."""
    client = DeflatingClient(server)
    with client:
        granted = client.upgrade("/ws", [*by_header(new_token(person)), OFFER])
        client.granted = granted.headers["sec-websocket-extensions"]
        assert client.event()["event"] == "joined"
        yield client


def test_a_client_is_asked_to_compress_each_message_separately(server: Usher, ada: Client) -> None:
    # A token compressed beside what was said before would show by its length (CRIME).
    with compressed(server, ada) as client:
        assert client.granted == "permessage-deflate; client_no_context_takeover"


def test_a_client_that_keeps_the_compression_context_is_understood(
    server: Usher, ada: Client
) -> None:
    # Tornado's own client drops parameters without a value, and so does not see this one.
    with compressed(server, ada) as client:
        for _ in range(3):
            client.send(flagged(RSV1, frame(client.deflated(BEAT))))
            assert client.event()["ok"] is True


def test_control_frames_between_compressed_fragments_change_nothing(
    server: Usher, ada: Client
) -> None:
    with compressed(server, ada) as client:
        data = client.deflated(BEAT)
        cut = len(data) // 2
        client.send(flagged(RSV1, frame(data[:cut], final=False)))
        client.send(frame(b"p", PING) + frame(b"", PONG) + frame(data[cut:], 0))
        assert client.frame() == (PONG, b"p")
        assert client.event()["ok"] is True


def test_what_is_not_compressed_may_stand_beside_what_is(server: Usher, ada: Client) -> None:
    with compressed(server, ada) as client:
        client.send(frame(BEAT) + flagged(RSV1, frame(client.deflated(BEAT))) + frame(BEAT))
        assert [client.event()["ok"] for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("size", [64 * 1024 + 1, 50_000_000])
def test_a_small_frame_that_would_be_a_big_message_ends_the_socket(
    server: Usher, ada: Client, size: int
) -> None:
    with compressed(server, ada) as client:
        data = client.deflated(b" " * size)
        assert len(data) < 60_000
        before = peak_memory(server)
        client.send(flagged(RSV1, frame(data)))
        assert client.ending().code == 1009
        assert peak_memory(server) - before < 10_000, "KiB: it was not inflated whole"


def peak_memory(server: Usher) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def bad(client: DeflatingClient) -> dict[str, bytes]:
    """Frames that are none of this extension, by what is wrong with them."""
    data = client.deflated(BEAT)
    return {
        "not deflated": flagged(RSV1, frame(b"\xff" * 20)),
        "deflated twice": flagged(RSV1, frame(client.deflated(client.deflated(BEAT)))),
        "deflated and not UTF-8": flagged(RSV1, frame(client.deflated(b"\xff\xfe"))),
        "a ping that is compressed": flagged(RSV1, frame(b"", PING)),
        "a close that is compressed": flagged(RSV1, frame(b"", CLOSE)),
        "a continuation that is compressed": flagged(RSV1, frame(data[:5], final=False))
        + flagged(RSV1, frame(data[5:], 0)),
        "reserved bit 2": flagged(RSV1 | RSV2, frame(data)),
        "reserved bit 3": flagged(RSV3, frame(data)),
    }


@pytest.mark.parametrize(
    "name",
    [
        "not deflated",
        "deflated twice",
        "deflated and not UTF-8",
        "a ping that is compressed",
        "a close that is compressed",
        "a continuation that is compressed",
        "reserved bit 2",
        "reserved bit 3",
    ],
)
def test_a_frame_that_is_invalid_ends_the_socket_without_a_traceback_and_leaves_no_file_open(
    server: Usher, ada: Client, name: str
) -> None:
    before = open_files(server)
    with compressed(server, ada) as client:
        client.send(bad(client)[name])
        assert client.ending().code in {1006, 4400}
        # Its end is the server's doing: the client has not closed.
        wait_until(lambda: open_files(server) <= before)


def open_files(server: Usher) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def test_small_fragments_without_end_end_the_socket(server: Usher, ada: Client) -> None:
    with compressed(server, ada) as client:
        client.send(frame(b"", TEXT, final=False))
        client.send(frame(b"", 0, final=False) * 2000)
        ending = client.ending()
        assert ending.code == 4429
        assert ending.closing["reason"] == "rate_limited"


def test_a_message_in_many_fragments_within_the_rate_is_one(server: Usher, ada: Client) -> None:
    with compressed(server, ada) as client:
        text = json.dumps({"event": "heartbeat", "id": 1, "data": "x" * 300}).encode()
        parts = [frame(text[i : i + 1], 0, final=False) for i in range(1, len(text))]
        client.send(frame(text[:1], final=False) + b"".join(parts) + frame(b"", 0))
        assert client.event()["ok"] is True
