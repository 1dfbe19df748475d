"""The messages of a socket: events, replies and close codes. Sans-I/O: bytes in, values out.

A frame is JSON text `{"event": string, "id"?: string|number, "data"?: any}`. Nothing here reads a
socket, a clock or a store, so the same code serves the server, the docs and the tests.
"""

from __future__ import annotations

import json
from enum import Enum, IntEnum
from typing import Any

import msgspec

from services.errors import BadRequest, RateLimited, UsherError

SUBPROTOCOL = "usher.v1"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_UNJOINED_MESSAGE_BYTES = 8 * 1024
"""An unauthenticated client gets less memory than a joined one."""


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


CLOSE_MEANINGS: dict[CloseCode, str] = {
    CloseCode.MESSAGE_TOO_BIG: "A message over 64 KiB, or over 8 KiB before the join.",
    CloseCode.SERVICE_RESTART: "The server is stopping. `after` spreads the reconnects.",
    CloseCode.BAD_REQUEST: "A message that is not a frame, or contradictory credentials.",
    CloseCode.UNAUTHENTICATED: "An invalid credential, or an event before the join.",
    CloseCode.FORBIDDEN: "Signed in but not allowed.",
    CloseCode.JOIN_TIMEOUT: "No credential was presented in time.",
    CloseCode.REPLACED: "The same bearer token has opened another socket.",
    CloseCode.SESSION_REVOKED: "The login session has ended: logout, a new password, signed out "
    "by the user, an administrator or a provider, a refresh token used twice, account disabled, "
    "deleted or unlinked.",
    CloseCode.SLOW_CONSUMER: "The client left more than 256 KiB unread.",
    CloseCode.TOKEN_EXPIRED: "The access token is genuine, but has expired or has an old role.",
    CloseCode.RATE_LIMITED: "Over the message rate for ten seconds, or more sockets or connections "
    "than are allowed.",
    CloseCode.UNAVAILABLE: "Credentials cannot be checked at the moment.",
}
"""For the docs."""

RETRY_MEANINGS: dict[Retry, str] = {
    Retry.NEVER: "Do not reconnect automatically: it would fail again.",
    Retry.LOGIN: "The user has to sign in again.",
    Retry.REFRESH: "Get a new access token, then connect again.",
    Retry.BACKOFF: "Connect again after a random pause that grows each time, at least `after`.",
}
"""For the docs."""


# ---- what a client sends -------------------------------------------------------------------


class Frame(msgspec.Struct, gc=False):
    """The envelope of a client's message. `id` is echoed unchanged, and `data` is decoded once the
    event is known, so both stay raw."""

    event: str
    id: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class Auth(msgspec.Struct):
    """`token`: an access token, or a ticket."""

    token: str


class UserJoin(msgspec.Struct):
    auth: Auth


class TokenRefresh(msgspec.Struct):
    """`token`: an access token of the same user and login session, or a ticket of it."""

    token: str


# ---- what the server sends -----------------------------------------------------------------


class Member(msgspec.Struct, frozen=True, gc=False):
    """A user as others on a socket may see them."""

    id: str
    name: str


class Author(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Who sent a message. `gone`: the account is deleted; then `name` is empty."""

    id: str
    name: str
    gone: bool = False


class JoinedUser(msgspec.Struct, frozen=True, gc=False):
    """`role`: `user` or `admin`."""

    id: str
    name: str
    role: str


class Joined(msgspec.Struct, frozen=True):
    """`session_id`: of this socket. `expires_at`: of the access token, in epoch seconds."""

    session_id: str
    user: JoinedUser
    rooms: list[str]
    expires_at: float


class Expiry(msgspec.Struct, frozen=True, gc=False):
    """`expires_at`: of the access token, in epoch seconds."""

    expires_at: float


class ServerTime(msgspec.Struct, frozen=True, gc=False):
    """`server_time`: epoch seconds."""

    server_time: float


class Closing(msgspec.Struct, frozen=True, omit_defaults=True):
    """`code`: the close code that follows. `after`: seconds to wait before reconnecting."""

    code: int
    reason: str
    retry: Retry
    after: float | None = None


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """`code`: machine-readable, as in problem documents. `message`: a human-readable sentence.
    `retry_after`: with `rate_limited`, the seconds until a retry can succeed."""

    code: str
    message: str
    retry_after: float | None = None


class ServerEvent(msgspec.Struct, frozen=True):
    """An event that the server sends, for the docs: the type of its data, and when it is sent."""

    data: Any
    summary: str


SERVER_EVENTS: dict[str, ServerEvent] = {
    "joined": ServerEvent(
        Joined,
        "The socket has joined. Sent if the credential was presented in the handshake, or in a "
        "`user-join` without an `id`.",
    ),
    "reply": ServerEvent(Any, "The reply to a frame with an `id`: exactly one for each."),
    "token-expiring": ServerEvent(
        Expiry,
        "The access token expires in 60 seconds, or in half of its lifetime if that is less. Send "
        "`token-refresh`.",
    ),
    "closing": ServerEvent(Closing, "The last event before the server closes the socket."),
}


# ---- decoding ------------------------------------------------------------------------------

MAX_DETAIL = 300
"""Maximum length of the detail of a refusal, in characters."""
UNREADABLE = b"\xff"
"""Data that is invalid for every type."""
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
        # Decoded as text first: raw parts are forwarded unparsed, and must be UTF-8.
        text = str(message, "utf-8")
    except UnicodeDecodeError as error:
        raise NotAFrame("frame: not UTF-8") from error
    try:
        frame = _FRAME.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        frame = _readable_part(text, error)
    raw_id = bytes(frame.id)
    if raw_id and raw_id[0] not in _ID_START:
        raise NotAFrame("frame: id is neither a string nor a number")
    return frame


def _readable_part(text: str, error: Exception) -> Frame:
    """The envelope of JSON that is good in all but its data, which is refused later.

    A string cut in the middle of an emoji leaves half a surrogate pair (JavaScript writes it as
    an escape). That is wrong data, not a reason to end the socket.

    Raises:
        NotAFrame: it is not JSON of the envelope's form.
    """
    try:
        found = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        raise NotAFrame(f"frame: {type(error).__name__}") from error
    try:
        # A number out of range is infinity to Python, and would be echoed as what is no JSON.
        frame_id = json.dumps(found["id"], allow_nan=False).encode() if "id" in found else b""
    except (ValueError, RecursionError) as fault:
        raise NotAFrame("frame: its id cannot be echoed") from fault
    return Frame(found["event"], msgspec.Raw(frame_id), msgspec.Raw(UNREADABLE))


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")  # Python reads NaN and Infinity


def decode_data(frame: Frame, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The data of a frame in its event's type. An absent `data` counts as `{}`.

    Raises:
        BadRequest: the data does not fit.
    """
    try:
        return decoder.decode(frame.data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        evidence = f"{frame.event[:64]!r}: data does not fit its type"
        raise BadRequest(evidence, detail=_describe_mismatch(error)) from error


def _describe_mismatch(error: Exception) -> str:
    """Name the invalid member and the reason: "data.auth.token: Expected `str`, got `int`"."""
    if not isinstance(error, msgspec.ValidationError):
        return "data: not JSON that can be read"
    what, _, where = str(error).partition(" - at `$")
    return f"data{where.rstrip('`')}: {what}"[:MAX_DETAIL]


# ---- encoding ------------------------------------------------------------------------------


def encode_event(event: str, data: object) -> bytes:
    """The text of an event."""
    return b'{"event":%b,"data":%b}' % (encode_json(event), encode_json(data))


def encode_reply(frame_id: bytes, data: object) -> bytes:
    """The text of a good reply; `frame_id` is the raw JSON that the client sent."""
    return b'{"event":"reply","id":%b,"ok":true,"data":%b}' % (frame_id, encode_json(data))


def encode_error(
    frame_id: bytes, code: str, message: str, retry_after: float | None = None
) -> bytes:
    """The text of a reply that refuses. `retry_after`: seconds."""
    error = encode_json(Refusal(code, message, retry_after))
    return b'{"event":"reply","id":%b,"ok":false,"error":%b}' % (frame_id, error)


def encode_refusal(frame_id: bytes, error: UsherError) -> bytes:
    """The reply to a frame that was refused with `error`; only its public words travel: which
    member was wrong, where that was it."""
    message = str(error.public.get("detail") or error.title)
    wait = round(error.seconds, 3) if isinstance(error, RateLimited) else None
    return encode_error(frame_id, error.code, message, wait)


def encode_closing(code: CloseCode, after: float | None = None) -> bytes:
    """The text of the `closing` event. `after`: seconds."""
    return encode_event("closing", Closing(int(code), code.reason, code.retry, after))
