"""RFC 6455 frames, server side. Sans-I/O: bytes in, messages out; messages in, bytes out.

No extension is negotiated: permessage-deflate costs 160 KB a socket and 40 % of the fan-out
(docs/performance.md), and compressing secrets beside attacker-chosen text leaks them (CRIME).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

from services.errors import UsherError

try:
    from tornado.speedups import websocket_mask
except ImportError:  # Tornado was installed without a compiler, where there is no wheel
    from services.websocket.masking import mask_by_integer as websocket_mask


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


PROTOCOL_ERROR = 1002
NOT_UTF8 = 1007
NO_STATUS = 1005
MAX_CONTROL_BYTES = 125
LIGHT_BYTES = 512
"""A fragment of less is a light frame: no client has a reason to send many."""
LIGHT_FRAMES = 500
"""Number of these frames that a peer may send before its rate is checked."""
FINAL_TEXT, MASKED, SMALL_HEADER_BYTES = 0x81, 0x80, 6
"""A whole message in a small text frame, which nearly all are: read without the general case."""
TEXT = Opcode.TEXT  # a name of the module is found sooner than a member of an enum
_SMALL_TEXT = tuple(bytes((FINAL_TEXT, length)) for length in range(126))
"""The header of each small text frame that is sent."""
CLOSE, BINARY = Opcode.CLOSE, Opcode.BINARY
_CLOSE_FRAMES = {code: bytes((0x80 | CLOSE, 2)) + struct.pack("!H", code) for code in (1000, 1001)}
"""What answers the good-bye of nearly every client."""
_DATA = frozenset((Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY))
_OPCODES = {int(opcode): opcode for opcode in Opcode}
"""A tenth of the time of a call of the enum."""


class FrameError(UsherError):
    """The peer broke RFC 6455, or a limit. `close_code`: what to close with."""

    code = "bad_frame"

    def __init__(self, evidence: str, close_code: int = PROTOCOL_ERROR) -> None:
        super().__init__(evidence)
        self.close_code = close_code


def encode_frame(opcode: Opcode, payload: bytes) -> bytes:
    """One whole unmasked frame (section 5.1: a server does not mask)."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def encode_text(payload: bytes) -> bytes:
    """A text frame, built once however many sockets it goes to."""
    if len(payload) < 126:
        return _SMALL_TEXT[len(payload)] + payload
    return encode_frame(Opcode.TEXT, payload)


def text_of(frame: bytes) -> bytes:
    """The payload of a frame that `encode_text` has built."""
    length = frame[1]
    return frame[2 if length < 126 else 4 if length == 126 else 10 :]


class Perishable(bytes):
    """A frame that may not leave any more from a moment on.

    Attributes:
        is_over: whether that moment has come.
        instead: a frame to send then; empty for none.
    """

    is_over: Callable[[], bool]
    instead: bytes

    @classmethod
    def of(cls, frame: bytes, is_over: Callable[[], bool], instead: bytes = b"") -> Perishable:
        """Such a frame, from one that is already built."""
        made = cls(frame)
        made.is_over, made.instead = is_over, instead
        return made

    def now(self) -> bytes:
        """What may leave now: itself, or what is sent instead."""
        return self.instead if self.is_over() else self


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame (section 5.5.1); without a code when `code` is 1005."""
    if not reason and (frame := _CLOSE_FRAMES.get(code)) is not None:
        return frame
    if code == NO_STATUS:
        return encode_frame(Opcode.CLOSE, b"")
    payload = struct.pack("!H", code) + reason.encode()[: MAX_CONTROL_BYTES - 2]
    return encode_frame(Opcode.CLOSE, payload)


def unmask(payload: bytes, key: bytes) -> bytes:
    """XOR with the masking key (section 5.3): 3 µs for 60 KB in C, 72 µs in Python."""
    return websocket_mask(key, payload)


def close_code_of(payload: bytes) -> int:
    """The status code in a close frame's payload; 1005 when it has none.

    Raises:
        FrameError: a code that must not travel (section 7.4), or a reason that is not UTF-8.
    """
    if not payload:
        return NO_STATUS
    if len(payload) == 1:
        raise FrameError("close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise FrameError(f"close code {code} must not be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError as error:
        raise FrameError("close reason is not UTF-8", NOT_UTF8) from error
    return code


class FrameReader:
    """Parses a byte stream from a client into messages and control frames.

    `max_message` (bytes, over all fragments) may change between messages. Pull with `next()`
    until it gives None, so that a caller may stop half-way through what one read brought.

    A control frame, or a fragment with next to nothing in it, costs a peer a few bytes and us as
    much as any other: these are counted in `light`, which the caller may set back, and after
    `max_light` of them `next()` gives None though there may be more.
    """

    __slots__ = (
        "_assembled",
        "_buffer",
        "_fragments_of",
        "_need",
        "_position",
        "light",
        "max_light",
        "max_message",
    )

    def __init__(self, max_message: int) -> None:
        self.max_message = max_message
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._need = 0
        self._fragments_of: Opcode | None = None
        self._assembled: bytearray | None = None
        self.light, self.max_light = 0, LIGHT_FRAMES

    @property
    def has_more(self) -> bool:
        """Whether anything was fed that `next()` has not given."""
        return self._position < len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._position == len(self._buffer):
            self._buffer, self._position = data, 0
            return
        if not isinstance(self._buffer, bytearray) or self._position:
            # A bytearray grows in place: one byte at a time must not cost a copy of everything.
            self._buffer = bytearray(memoryview(self._buffer)[self._position :])
            self._position = 0
        self._buffer += data

    def next(self) -> tuple[Opcode, bytes] | None:
        """The next message or control frame, or None until more bytes come.

        Raises:
            FrameError: the stream is not what RFC 6455 allows, or a message is too big.
        """
        buffer, start = self._buffer, self._position
        if len(buffer) - start > SMALL_HEADER_BYTES and buffer[start] == FINAL_TEXT:
            length = buffer[start + 1] - MASKED
            end = start + SMALL_HEADER_BYTES + length
            if (
                0 <= length <= MAX_CONTROL_BYTES
                and end <= len(buffer)
                and length <= self.max_message
                and self._assembled is None
                and self.light < self.max_light
            ):
                self._need, self._position = 0, end
                body = start + SMALL_HEADER_BYTES
                return TEXT, unmask(bytes(buffer[body:end]), bytes(buffer[start + 2 : body]))
        while self.light < self.max_light:
            frame = self._next_frame()
            if frame is None:
                return None
            final, opcode, payload = frame
            if opcode > BINARY:
                self.light += 1
                return opcode, payload
            if final and opcode != Opcode.CONTINUATION:
                return opcode, payload
            self.light += len(payload) < LIGHT_BYTES
            message = self._assemble(final, opcode, payload)
            if message is not None:
                return message
        return None

    def _assemble(self, final: bool, opcode: Opcode, payload: bytes) -> tuple[Opcode, bytes] | None:
        if self._assembled is None or self._fragments_of is None:
            self._fragments_of, self._assembled = opcode, bytearray(payload)
        else:
            self._assembled += payload
        if not final:
            return None
        message = self._fragments_of, bytes(self._assembled)
        self._fragments_of = self._assembled = None
        return message

    def _next_frame(self) -> tuple[bool, Opcode, bytes] | None:
        buffer, start = self._buffer, self._position
        available = len(buffer) - start
        if available < 2 or available < self._need:
            if not available:
                self._buffer, self._position = b"", 0  # an idle socket holds nothing
            return None
        first, second = buffer[start], buffer[start + 1]
        opcode, length = first & 0x0F, second & 0x7F
        self._check_header(first, second, opcode, length)
        header = 2
        if length >= 126:
            header = 4 if length == 126 else 10
            if available < header:
                return None
            length = self._long_length(buffer, start, header)
        self._check_size(opcode, length)
        end = start + header + 4 + length
        if len(buffer) < end:
            self._need = end - start
            return None
        self._need = 0
        self._position = end
        body = start + header + 4
        payload = unmask(bytes(buffer[body:end]), bytes(buffer[start + header : body]))
        return bool(first & 0x80), _OPCODES[opcode], payload

    def _check_header(self, first: int, second: int, opcode: int, length: int) -> None:
        if first & 0x70:
            raise FrameError("reserved bit set without an extension")
        if opcode not in _OPCODES:
            raise FrameError(f"unknown opcode {opcode:#x}")
        if not second & 0x80:
            raise FrameError("frame from a client is not masked")
        if opcode >= Opcode.CLOSE and (length > MAX_CONTROL_BYTES or not first & 0x80):
            raise FrameError("control frame fragmented or too long")
        if (opcode == Opcode.CONTINUATION) != (self._assembled is not None) and opcode in _DATA:
            raise FrameError("fragments out of order")

    @staticmethod
    def _long_length(buffer: bytes | bytearray, start: int, header: int) -> int:
        length = int.from_bytes(buffer[start + 2 : start + header], "big")
        if length >> 63:
            raise FrameError("length with its highest bit set")
        if length < (126 if header == 4 else 65536):
            raise FrameError("length not in its shortest form")
        return length

    def _check_size(self, opcode: int, length: int) -> None:
        # Judged from the header alone, so that a huge frame is refused before it is held.
        if opcode in _DATA:
            length += len(self._assembled) if self._assembled is not None else 0
            if length > self.max_message:
                raise FrameError(f"message of {length} bytes", 1009)
