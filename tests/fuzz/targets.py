"""The code that parses bytes of unauthenticated clients, as functions of bytes, with invariants.

A target takes any bytes and returns, or raises AssertionError (a rule is broken) or whatever it
should not have raised. `make fuzz` has atheris choose the bytes; test_targets.py tries what it has
found, and a few of its own, without atheris.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Callable, Iterator
from typing import Any

import jwt
from tornado.httputil import HTTPHeaders, HTTPInputError, RequestStartLine, parse_request_start_line

from handlers.websocket import handshake
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from handlers.websocket.target import origin_form
from services.accounts.devices import Devices
from services.errors import BadRequest, TokenExpired, Unauthenticated, UsherError
from services.keyed_tokens import CHECKSUM_LENGTH
from services.opaque import token_hash
from services.rooms.room_protocol import Say, message_body, message_event
from services.secret import Secret
from services.sessions.tickets import looks_like_ticket
from services.sessions.tokens import ALGORITHM, Claims, Tokens, key_id
from services.settings.origins import Origins
from services.settings.proxies import Proxies
from services.websocket.frames import (
    MAX_CONTROL_BYTES,
    FrameError,
    FrameReader,
    Opcode,
    close_code_of,
)
from services.websocket.protocol import (
    Frame,
    Member,
    NotAFrame,
    decode_data,
    decode_frame,
    encode_refusal,
    encode_reply,
)

Target = Callable[[bytes], None]
Read = tuple[list[tuple[Opcode, bytes]], int]

NOW = 1_800_000_000.0
SECRET = Secret("a secret of the fuzzing, 32 bytes or more")
ISSUER, AUDIENCE = "http://usher.test", "usher"
TOKENS = Tokens([SECRET], ISSUER, AUDIENCE, clock=lambda: NOW)
DEVICES = Devices(TOKENS.devices)
ALL_EVENTS = {**EVENTS, **ROOM_EVENTS}
MAX_MESSAGE = 4096
"""Small, so that the limit is met."""
SPEAKER = Member("u1", 'Ada "\n\u2028')
ORIGINS = Origins("https://usher.test", "127.0.0.1", 8888, ["https://app.test"])
PROXIES = Proxies([ipaddress.ip_network(text) for text in ("127.0.0.1", "10.0.0.0/8")])
ACCEPT_LENGTH = 28
MOST_LINES = 5
"""Of a 101: the status, three fields, and the subprotocol."""


# ---- the frame reader ------------------------------------------------------------------------


def frame_reader(data: bytes) -> None:
    """RFC 6455 off the wire: only FrameError, no limit passed, the same however it is cut."""
    size, stream = (data[0] if data else 0), data[1:]
    whole = _read([stream])
    assert _read(_cut(stream, size + 1)) == whole, "the cut of the stream made a difference"
    for opcode, payload in whole[0]:
        is_control = opcode in (Opcode.CLOSE, Opcode.PING, Opcode.PONG)
        assert len(payload) <= (MAX_CONTROL_BYTES if is_control else MAX_MESSAGE)
        if opcode == Opcode.CLOSE:
            _close_code(payload)


def _read(chunks: Iterator[bytes] | list[bytes]) -> Read:
    reader, messages = FrameReader(MAX_MESSAGE), list[tuple[Opcode, bytes]]()
    reader.max_light = 1 << 30
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while (message := reader.next()) is not None:
                messages.append(message)
    except FrameError as error:
        code = error.close_code
    else:
        code = 0
    assert code in {0, 1002, 1007, 1009}
    return messages, code


def _cut(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[at : at + size] for at in range(0, len(stream), size))


def _close_code(payload: bytes) -> None:
    try:
        code = close_code_of(payload)
    except FrameError as error:
        code = error.close_code
    assert 1000 <= code <= 4999
    assert code not in {1004, 1006, 1015}


# ---- the frame decoder -----------------------------------------------------------------------


def frame_decoder(data: bytes) -> None:
    """JSON of a client: refused as a frame, or as data; and what is sent on is JSON."""
    if data[:1] >= b"\x80":
        data = _framed(data)
    try:
        frame = decode_frame(data)
    except NotAFrame:
        return
    if frame.id:
        _is_echoed(frame)
    for event in ALL_EVENTS.values():
        try:
            found = decode_data(frame, event.decoder)
        except BadRequest as error:
            if frame.id:
                json.loads(encode_refusal(bytes(frame.id), error))
            continue
        if isinstance(found, Say):
            _is_sent_on(found)


def _framed(data: bytes) -> bytes:
    """A frame around a raw id and raw data: what is passed on unread.

    `data`: a byte that chooses the event, the id, a zero byte, the data.
    """
    names = sorted(ALL_EVENTS)
    name, (frame_id, _, rest) = names[data[0] % len(names)], data[1:].partition(b"\0")
    if name == "message":
        rest = b'{"room":"r","data":%b}' % rest
    return b'{"event":"%b","id":%b,"data":%b}' % (name.encode(), frame_id, rest)


def _is_echoed(frame: Frame) -> None:
    reply = json.loads(encode_reply(bytes(frame.id), None))
    assert set(reply) == {"event", "id", "ok", "data"}
    assert isinstance(reply["id"], str | int | float)


def _is_sent_on(said: Say) -> None:
    """Nothing that one member says may be no JSON to the others, or pass for another's."""
    event = json.loads(
        message_event("1-0", message_body(said.room, SPEAKER, said.data, NOW)).decode()
    )
    assert set(event) == {"event", "data"}
    message = event["data"]
    assert set(message) == {"id", "room", "from", "data", "sent_at"}
    assert message["from"] == {"id": SPEAKER.id, "name": SPEAKER.name}
    assert message["id"] == "1-0"


# ---- the token checks ------------------------------------------------------------------------


def token_checks(data: bytes) -> None:
    """Every text that is presented as a credential; and signed ones, to get past the signature."""
    text = data[1:].decode("utf-8", "surrogateescape")
    if data[:1] >= b"\x80":
        _signed(data[1:])
        return
    for found in (
        _verified(text),
        TOKENS.refresh.read(text),
        TOKENS.refresh.outline(text) and TOKENS.refresh.read(text),
        DEVICES.recognise(text, "ada@example.org"),
        TOKENS.tickets.verify(text[:-CHECKSUM_LENGTH], text[-CHECKSUM_LENGTH:]) or None,
    ):
        assert found is None, "a credential that was never made was taken"
    looks_like_ticket(text)
    token_hash(text)


def _verified(token: str) -> Claims | None:
    try:
        return TOKENS.verify(token)
    except TokenExpired as error:
        return error.claims
    except Unauthenticated:
        return None


def _signed(parts: bytes) -> None:
    """A header and a payload that are wrong in any way, with a signature of ours.

    `parts`: the header, a zero byte, the payload; without a header, that of our tokens.
    """
    header, found, payload = parts.partition(b"\0")
    if not found:
        header, payload = b"", parts
    if not header:
        header = json.dumps({"alg": ALGORITHM, "kid": key_id(SECRET), "typ": "at+jwt"}).encode()
    text = f"{_base64url(header)}.{_base64url(payload)}"
    algorithm = jwt.get_algorithm_by_name(ALGORITHM)
    key = algorithm.prepare_key(SECRET.reveal())
    token = f"{text}.{_base64url(algorithm.sign(text.encode(), key))}"
    claims = _verified(token)
    if claims is not None:
        _agrees(token, claims)


def _agrees(token: str, claims: Claims) -> None:
    """PyJWT takes it as well, and reads the same out of it."""
    options: Any = {f"verify_{name}": False for name in ("exp", "iat", "nbf", "sub", "jti")}
    reported = jwt.decode(
        token,
        SECRET.reveal(),
        algorithms=[ALGORITHM],
        issuer=ISSUER,
        audience=AUDIENCE,
        options=options,
    )
    assert claims.sub == reported["sub"]
    assert claims.sid == reported["sid"]
    assert claims.jti == reported["jti"]
    assert claims.role == reported["role"]
    assert claims.exp == float(reported["exp"])
    assert jwt.get_unverified_header(token)["typ"].lower() in {"at+jwt", "application/at+jwt"}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# ---- the handshake ---------------------------------------------------------------------------


def opening_handshake(data: bytes) -> None:
    """The head of a request, as Tornado hands it over: answered, or refused as UsherError."""
    head, _, fields = data.decode("latin-1").partition("\r\n")
    try:
        start = parse_request_start_line(head)
        headers = HTTPHeaders.parse(fields)
    except HTTPInputError:
        return  # Tornado's own refusal: 400
    ORIGINS.is_own_or_allowed(headers.get("Origin"))
    ORIGINS.refused(headers.get("Origin"), headers.get("Host"))
    PROXIES.client_address("127.0.0.1", headers)
    try:
        start = origin_form(start, headers)
        _credentials(start, headers)
        accept = handshake.check_handshake(start, headers)
    except UsherError as error:
        status, reason, answered = handshake.refusal(error)
        assert status in {400, 426, 431, 429}
        assert reason
        assert not any("\r" in text or "\n" in text for text in answered.values())
        return
    _is_answer(accept, handshake.answer(accept, headers), headers)


def _credentials(start: RequestStartLine, headers: HTTPHeaders) -> None:
    handshake.cookie_credential(headers, "access_token")
    for credential in handshake.explicit_credentials(start, headers):
        assert _verified(credential.text) is None


def _is_answer(accept: str, answer: bytes, headers: HTTPHeaders) -> None:
    """Five lines at most, and nothing in them that the client chose."""
    assert len(accept) == ACCEPT_LENGTH
    try:
        base64.b64decode(accept, validate=True)
    except binascii.Error:
        raise AssertionError("the accept is not base64") from None
    *lines, end, rest = answer.decode().split("\r\n")
    assert (end, rest) == ("", "")
    assert len(lines) <= MOST_LINES
    assert handshake.BEARER_PREFIX not in answer.decode()
    assert headers["Sec-WebSocket-Version"] == "13"


TARGETS: dict[str, Target] = {
    "frame_reader": frame_reader,
    "frame_decoder": frame_decoder,
    "token_checks": token_checks,
    "handshake": opening_handshake,
}
