"""handlers/proxy_protocol.py: PROXY headers by their bytes, and connections that begin with one."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import proxy_protocol as module
from handlers.proxy_protocol import (
    MAX_V1_BYTES,
    MAX_V2_BODY_BYTES,
    UNKNOWN_CLIENT,
    BadProxyHeader,
    ProxyHeader,
    ProxyHeaders,
    proxy_header,
)
from services.settings.proxies import Proxies
from tests.support.server import PATIENCE

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
CLIENT = "203.0.113.7"
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def v2(body: bytes = b"", family: int = 0x11, command: int = PROXY) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def addresses(source: str, target: str, source_port: int, target_port: int) -> bytes:
    packed = ip_address(source).packed + ip_address(target).packed
    return packed + struct.pack("!HH", source_port, target_port)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


V4, V6 = addresses(CLIENT, "10.0.0.1", 5000, 443), addresses("2001:db8::7", "::1", 5000, 443)
TLVS = tlv(0x01, b"http/1.1") + tlv(0x02, b"usher.example") + tlv(0x20, b"\x01\0\0\0\0")
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")

VALID: dict[str, tuple[bytes, tuple[str, int] | None]] = {
    "v1, IPv4": (b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\n", (CLIENT, 5000)),
    "v1, IPv6": (b"PROXY TCP6 2001:DB8:0::7 ::1 5000 443\r\n", ("2001:db8::7", 5000)),
    "v1, the longest": (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        (":".join(["ffff"] * 8), 65535),
    ),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1, unknown with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v1, an IPv4 client of IPv6": (
        b"PROXY TCP6 ::ffff:203.0.113.7 ::1 0 443\r\n",
        (str(ip_address("::ffff:203.0.113.7")), 0),
    ),
    "v2, IPv4": (v2(V4), (CLIENT, 5000)),
    "v2, IPv6": (v2(V6, 0x21), ("2001:db8::7", 5000)),
    "v2, a datagram": (v2(V4, 0x12), (CLIENT, 5000)),
    "v2, with TLVs": (v2(V4 + TLVS), (CLIENT, 5000)),
    "v2, IPv6 with TLVs": (v2(V6 + TLVS, 0x21), ("2001:db8::7", 5000)),
    "v2, UNIX": (v2(UNIX, 0x31), None),
    "v2, unspecified": (v2(b"", 0x00), None),
    "v2, unspecified with TLVs": (v2(TLVS, 0x00), None),
    "v2, local": (v2(b"", 0x00, LOCAL), None),
    "v2, local with an address": (v2(V4, 0x11, LOCAL), None),
    "v2, local of a family that there is not": (v2(b"abc", 0xF7, LOCAL), None),
    "v2, the longest": (v2(V4.ljust(MAX_V2_BODY_BYTES, b"\0")), (CLIENT, 5000)),
}
INVALID = {
    "a request": REQUEST,
    "a TLS handshake": b"\x16\x03\x01\x02\x00",
    "other letters": b"proxy TCP4 203.0.113.7 10.0.0.1 5000 443\r\n",
    "v1, no family": b"PROXY \r\n",
    "v1, another family": b"PROXY UDP4 203.0.113.7 10.0.0.1 5000 443\r\n",
    "v1, IPv6 as IPv4": b"PROXY TCP4 ::1 ::1 5000 443\r\n",
    "v1, IPv4 as IPv6": b"PROXY TCP6 203.0.113.7 10.0.0.1 5000 443\r\n",
    "v1, a zone": b"PROXY TCP6 fe80::1%eth0 ::1 5000 443\r\n",
    "v1, octal": b"PROXY TCP4 0203.0.113.7 10.0.0.1 5000 443\r\n",
    "v1, a short address": b"PROXY TCP4 127.1 10.0.0.1 5000 443\r\n",
    "v1, no target": b"PROXY TCP4 203.0.113.7 5000 443\r\n",
    "v1, a bad target": b"PROXY TCP4 203.0.113.7 x 5000 443\r\n",
    "v1, two spaces": b"PROXY TCP4  203.0.113.7 10.0.0.1 5000 443\r\n",
    "v1, a word too many": b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443 1\r\n",
    "v1, a port too high": b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 443\r\n",
    "v1, a port with a zero": b"PROXY TCP4 203.0.113.7 10.0.0.1 05000 443\r\n",
    "v1, a signed port": b"PROXY TCP4 203.0.113.7 10.0.0.1 +500 443\r\n",
    "v1, other digits": "PROXY TCP4 203.0.113.7 10.0.0.1 \u0665 443\r\n".encode(),
    "v1, LF alone in it": b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\nGET / HTTP/1.1\r\n",
    "v1, no end": b"PROXY UNKNOWN".ljust(MAX_V1_BYTES, b"x"),
    "v1, an end too late": b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 1, b"x") + b"\r\n",
    "v2, version 1": v2(V4, 0x11, 0x11),
    "v2, version 3": v2(V4, 0x11, 0x31),
    "v2, another command": v2(V4, 0x11, 0x22),
    "v2, another family": v2(UNIX, 0x41),
    "v2, another transport": v2(V4, 0x13),
    "v2, a family without transport": v2(V4, 0x10),
    "v2, too short for IPv4": v2(V4[:-1]),
    "v2, IPv4 as IPv6": v2(V4, 0x21),
    "v2, too short for UNIX": v2(UNIX[:-1], 0x31),
    "v2, too long": v2(V4.ljust(MAX_V2_BODY_BYTES + 1, b"\0")),
    "v2, 64 KiB": v2(V4.ljust(65_535, b"\0"), 0x11, LOCAL),
}


@pytest.mark.parametrize("name", VALID)
def test_a_header_is_read_however_it_is_split_and_ends_where_it_ends(name: str) -> None:
    data, source = VALID[name]
    for end in range(len(data)):
        assert proxy_header(data[:end]) is None
    for behind in (b"", REQUEST, b"\r\n", data):
        assert proxy_header(data + behind) == ProxyHeader(len(data), source)


@pytest.mark.parametrize("name", INVALID)
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(BadProxyHeader):
        proxy_header(INVALID[name])


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
def test_any_bytes_are_read_or_refused_and_never_beyond_the_bounds(
    more: bytes, head: bytes
) -> None:
    try:
        found = proxy_header(head + more)
    except BadProxyHeader:
        return
    if found is not None:
        assert 0 < found.size <= len(head + more)
        if found.source is not None:
            ip_address(found.source[0])


@given(st.binary(max_size=40), st.integers(0, 255), st.integers(0, 255))
def test_64_kib_are_refused_before_they_come(more: bytes, command: int, family: int) -> None:
    with pytest.raises(BadProxyHeader):
        proxy_header(SIGNATURE + bytes((command, family, 0xFF, 0xFF)) + more)


# ---- connections -------------------------------------------------------------------------------


class Place:
    """A listener whose connections come from `127.0.0.1`, which is a trusted proxy or is not."""

    def __init__(self, trusted: str) -> None:
        self.passed: list[tuple[socket.socket, tuple[Any, ...]]] = []
        self.came = asyncio.Event()
        self.headers = ProxyHeaders(Proxies([ip_network(trusted)]), self._passed)
        self.listening = socket.create_server(("127.0.0.1", 0))

    def _passed(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        self.passed.append((sock, address))
        self.came.set()

    def arrive(self) -> socket.socket:
        """A connection that has just been accepted; returns its client's end."""
        client = socket.create_connection(self.listening.getsockname())
        client.setblocking(False)
        self.headers.accepted(*self.listening.accept())
        return client

    async def arrived(self) -> tuple[socket.socket, tuple[Any, ...]]:
        """The connection that was passed on."""
        await asyncio.wait_for(self.came.wait(), PATIENCE)
        ((sock, address),) = self.passed
        return sock, address


@contextmanager
def place(trusted: str = "127.0.0.1") -> Iterator[Place]:
    made = Place(trusted)
    try:
        yield made
    finally:
        made.headers.close()
        made.listening.close()
        for sock, _ in made.passed:
            sock.close()


async def is_closed(client: socket.socket) -> bool:
    """Waits until the connection ends; true if nothing came before."""
    loop = asyncio.get_running_loop()
    try:
        return await asyncio.wait_for(loop.sock_recv(client, 100), PATIENCE) == b""
    except ConnectionResetError:  # what it sent was not read
        return True


@pytest.mark.gen_test
@pytest.mark.parametrize("name", VALID)
async def test_the_address_of_the_header_counts_and_what_follows_stays_unread(name: str) -> None:
    data, source = VALID[name]
    with place() as here, here.arrive() as client:
        client.sendall(data + REQUEST)
        sock, address = await here.arrived()
        assert address == (source or UNKNOWN_CLIENT)
        assert sock.recv(1000) == REQUEST


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["v1, IPv6", "v2, IPv6 with TLVs", "v1, unknown"])
async def test_a_header_may_come_byte_by_byte(name: str) -> None:
    data, source = VALID[name]
    with place() as here, here.arrive() as client:
        for index in range(len(data)):
            assert not here.passed
            client.sendall(data[index : index + 1])
            for _ in range(3):
                await asyncio.sleep(0)
        client.sendall(REQUEST)
        sock, address = await here.arrived()
        assert address == (source or UNKNOWN_CLIENT)
        found = b""
        while len(found) < len(REQUEST):
            found += await asyncio.get_running_loop().sock_recv(sock, 1000)
        assert found == REQUEST


@pytest.mark.gen_test
@pytest.mark.parametrize("name", INVALID)
async def test_a_trusted_proxy_without_a_header_is_closed_unanswered(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with place() as here, here.arrive() as client:
        client.sendall(INVALID[name][:5000])  # no more fits into every socket at once
        assert await is_closed(client)
        assert not here.passed
        assert "a connection of 127.0.0.1 was closed: " in caplog.text
        assert "PROXY_PROTOCOL=on" in caplog.text


@pytest.mark.gen_test
@pytest.mark.parametrize("first", [b"", b"PROXY TCP4 203.", v2(V4)[:20]])
async def test_a_header_that_stays_away_or_stays_half_ends_in_time(
    first: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HEADER_SECONDS", 0.2)
    with place() as here, here.arrive() as client:
        client.sendall(first)
        assert await is_closed(client)
        assert not here.passed
        assert "did not come in time" in caplog.text


@pytest.mark.gen_test
async def test_a_connection_that_is_closed_at_once_is_not_worth_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with place() as here, here.arrive() as client:
        client.shutdown(socket.SHUT_WR)
        assert await is_closed(client)
        assert not here.passed
        assert not caplog.text


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["v1, IPv4", "v2, IPv4"])
async def test_a_header_of_anybody_else_is_not_believed(name: str) -> None:
    data, _ = VALID[name]
    with place(trusted="192.0.2.1") as here, here.arrive() as client:
        client.sendall(data + REQUEST)
        sock, address = await here.arrived()
        assert address == client.getsockname()
        sock.setblocking(True)
        assert sock.recv(1000) == data + REQUEST


@pytest.mark.gen_test
async def test_a_stop_closes_the_connections_that_wait_for_a_header() -> None:
    with place() as here, here.arrive() as client:
        here.headers.close()
        assert await is_closed(client)
        assert not here.passed
