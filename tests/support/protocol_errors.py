"""Streams that break RFC 6455, and what Tornado makes of them."""

from __future__ import annotations

import struct

from tests.support.raw import BINARY, CLOSE, PING, PONG, frame

PROTOCOL_ERRORS = {
    "reserved bit 1, as of a compressed frame": b"\xc1" + frame(b"{}")[1:],
    "reserved bit 2": b"\xa1" + frame(b"{}")[1:],
    "reserved bit 3": b"\x91" + frame(b"{}")[1:],
    "unknown opcode": frame(b"{}", 0x3),
    "unknown control opcode": frame(b"", 0xB),
    "not masked": frame(b"{}", masked=False),
    "not masked ping": frame(b"", PING, masked=False),
    "fragmented ping": frame(b"", PING, final=False),
    "fragmented close": frame(b"", CLOSE, final=False),
    "ping of 126 bytes": frame(b"x" * 126, PING),
    "pong of 70,000 bytes": frame(b"x" * 70_000, PONG),
    "continuation of nothing": frame(b"{}", 0),
    "new text within fragments": frame(b"{", final=False) + frame(b"{}"),
    "new binary within fragments": frame(b"{", final=False) + frame(b"{}", BINARY),
    "length not in its shortest form": b"\x81\xfe\x00\x02mask{}",
    "length of 64 bits": b"\x81\xff" + b"\xff" * 8 + b"mask",
    "close with half a code": frame(b"\x03", CLOSE),
    "close with 1005": frame(struct.pack("!H", 1005), CLOSE),
    "close with 1006": frame(struct.pack("!H", 1006), CLOSE),
    "close with 0": frame(struct.pack("!H", 0), CLOSE),
    "close with 65535": frame(struct.pack("!H", 65535), CLOSE),
    "close with 2999": frame(struct.pack("!H", 2999), CLOSE),
}

BY_TORNADO = dict.fromkeys(PROTOCOL_ERRORS, 1006) | {
    "not masked": 4400,
    "length not in its shortest form": 4400,
    "length of 64 bits": 1009,
    "close with half a code": 1005,
    "close with 1005": 1005,
    "close with 0": 0,
    "close with 65535": 65535,
    "close with 2999": 2999,
}
"""With which code the Tornado form ends each; the RFC asks for 1002. It ends most without a close
frame (1006), takes frames that are not masked and lengths in a longer form, and sends back close
codes that must not travel."""
LIVES_THROUGH_TORNADO = frozenset(("not masked ping",))
"""What ends nothing there: the ping is answered."""
