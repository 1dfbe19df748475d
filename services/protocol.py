"""What travels over a socket: events, replies and close codes. Sans-I/O: bytes in, values out.

A frame is JSON text `{"event": string, "id"?: string|number, "data"?: any}`. Nothing here
reads a socket, a clock or a store, so the same code serves the server, the docs and the tests.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any

import msgspec

from services.errors import BadRequest, UsherError

SUBPROTOCOL = "usher.v1"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_UNJOINED_MESSAGE_BYTES = 8 * 1024
"""A stranger gets less memory than somebody we know."""


class Retry(str, Enum):
    """What a client should do after a close."""

    NEVER = "never"
    LOGIN = "login"
    REFRESH = "refresh"
    BACKOFF = "backoff"


class CloseCode(IntEnum):
    """Why the server ends a socket (RFC 6455 section 7.4). Each carries `reason` and `retry`."""

    reason: str
    retry: Retry

    def __new__(cls, code: int, reason: str, retry: Retry) -> CloseCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.reason = reason
        member.retry = retry
        return member

    MESSAGE_TOO_BIG = 1009, "message_too_big", Retry.NEVER
    SERVICE_RESTART = 1012, "service_restart", Retry.BACKOFF
    BAD_REQUEST = 4400, "bad_request", Retry.NEVER
    UNAUTHENTICATED = 4401, "unauthenticated", Retry.LOGIN
    FORBIDDEN = 4403, "forbidden", Retry.NEVER
    JOIN_TIMEOUT = 4408, "join_timeout", Retry.BACKOFF
    REPLACED = 4409, "replaced", Retry.NEVER
    SESSION_REVOKED = 4410, "session_revoked", Retry.LOGIN
    SLOW_CONSUMER = 4413, "slow_consumer", Retry.BACKOFF
    TOKEN_EXPIRED = 4419, "token_expired", Retry.REFRESH
    RATE_LIMITED = 4429, "rate_limited", Retry.BACKOFF
    UNAVAILABLE = 4503, "unavailable", Retry.BACKOFF


# ---- what a client sends -------------------------------------------------------------------


class Frame(msgspec.Struct):
    """The envelope. `id` and `data` stay raw: the id is echoed as it came, the data is typed
    only once the event is known."""

    event: str
    id: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class Auth(msgspec.Struct):
    token: str


class UserJoin(msgspec.Struct):
    """`token`: an access token, or a ticket."""

    auth: Auth


class TokenRefresh(msgspec.Struct):
    """`token`: an access token of the same user and login session, or a ticket of it."""

    token: str


# ---- what the server sends -----------------------------------------------------------------


class Member(msgspec.Struct, frozen=True):
    """A user as others on a socket may see them."""

    id: str
    name: str


class JoinedUser(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str


class Joined(msgspec.Struct, frozen=True):
    """The answer to `user-join`, or the event `joined`. `expires_at`: epoch seconds."""

    session_id: str
    user: JoinedUser
    rooms: list[str]
    expires_at: float


class Expiry(msgspec.Struct, frozen=True):
    """The answer to `token-refresh`, and the event `token-expiring`. Epoch seconds."""

    expires_at: float


class ServerTime(msgspec.Struct, frozen=True):
    """The answer to `heartbeat`. Epoch seconds."""

    server_time: float


class Closing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sent just before the server closes. `after`: seconds to wait before another try."""

    code: int
    reason: str
    retry: Retry
    after: float | None = None


# ---- decoding ------------------------------------------------------------------------------

_FRAME = msgspec.json.Decoder(Frame)
_ENCODER = msgspec.json.Encoder()
_ID_START = frozenset(b'"-0123456789')
encode_json = _ENCODER.encode


class NotAFrame(BadRequest):
    """Not JSON of the envelope's form: closes with 4400."""


def decode_frame(message: bytes) -> Frame:
    """The envelope in a text message.

    Raises:
        NotAFrame: it is not UTF-8, not JSON, or not of the envelope's form.
    """
    try:
        # As text first: raw parts are passed on unread, and must be UTF-8 for whoever gets them.
        frame = _FRAME.decode(str(message, "utf-8"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAFrame(f"frame: {type(error).__name__}") from error
    raw_id = bytes(frame.id)
    if raw_id and raw_id[0] not in _ID_START:
        raise NotAFrame("frame: id is neither a string nor a number")
    return frame


def decode_data(frame: Frame, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The data of a frame in its event's type. An absent `data` counts as `{}`.

    Raises:
        BadRequest: the data does not fit.
    """
    try:
        return decoder.decode(frame.data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{frame.event[:64]!r}: data does not fit its type") from error


# ---- encoding ------------------------------------------------------------------------------


def encode_event(event: str, data: object) -> bytes:
    """The text of an event."""
    return b'{"event":%b,"data":%b}' % (encode_json(event), encode_json(data))


def encode_reply(frame_id: bytes, data: object) -> bytes:
    """The text of a good reply; `frame_id` is the raw JSON that the client sent."""
    return b'{"event":"reply","id":%b,"ok":true,"data":%b}' % (frame_id, encode_json(data))


def encode_error(frame_id: bytes, code: str, message: str) -> bytes:
    """The text of a reply that refuses."""
    error = encode_json({"code": code, "message": message})
    return b'{"event":"reply","id":%b,"ok":false,"error":%b}' % (frame_id, error)


def encode_refusal(frame_id: bytes, error: UsherError) -> bytes:
    """The reply to a frame that was refused with `error`; only its public words travel."""
    return encode_error(frame_id, error.code, error.title)


def encode_closing(code: CloseCode, after: float | None = None) -> bytes:
    """The text of the `closing` event. `after`: seconds."""
    return encode_event("closing", Closing(int(code), code.reason, code.retry, after))
