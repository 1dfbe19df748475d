"""websocket/handshake.py: RFC 6455 section 4.2, and which credentials a handshake carries."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, RequestStartLine

from handlers.websocket.handshake import (
    MAX_TARGET_LENGTH,
    UpgradeRequired,
    answer,
    check_handshake,
    cookie_credential,
    explicit_credentials,
    refusal,
)
from services.errors import BadRequest, OriginRefused, StoreUnavailable, Unauthenticated, UsherError
from tests.support.raw import ACCEPT, KEY

GOOD = {
    "Host": "usher.test",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def start(target: str = "/ws", method: str = "GET", version: str = "HTTP/1.1") -> RequestStartLine:
    return RequestStartLine(method, target, version)


def headers(*extra: tuple[str, str], without: str = "") -> HTTPHeaders:
    """Those of a good handshake, with `extra` in place of the ones of the same name."""
    made = HTTPHeaders({k: v for k, v in GOOD.items() if k != without})
    for name in {name for name, _ in extra if name in made}:
        del made[name]
    for name, value in extra:
        made.add(name, value)
    return made


def presented(*extra: tuple[str, str], target: str = "/ws") -> list[tuple[str, str]]:
    return [(c.way, c.text) for c in explicit_credentials(start(target), headers(*extra))]


# ---- the handshake ---------------------------------------------------------------------------


def test_the_key_of_the_rfc_gets_the_answer_of_the_rfc() -> None:
    assert check_handshake(start(), headers()) == ACCEPT


@pytest.mark.parametrize(
    "extra",
    [
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c, websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Connection", "UPGRADE"),
        ("Content-Length", "0"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
    ],
)
def test_what_browsers_and_proxies_add_is_accepted(extra: tuple[str, str]) -> None:
    assert check_handshake(start(), headers(extra)) == ACCEPT


@pytest.mark.parametrize("missing", ["Upgrade", "Connection", "Sec-WebSocket-Version"])
def test_an_incomplete_upgrade_is_answered_upgrade_required(missing: str) -> None:
    with pytest.raises(UpgradeRequired):
        check_handshake(start(), headers(without=missing))


@pytest.mark.parametrize("version", ["8", "12", "14", "013", "13, 8", "", "13.0"])
def test_another_version_is_answered_with_the_supported_one(version: str) -> None:
    with pytest.raises(UpgradeRequired):
        check_handshake(start(), headers(("Sec-WebSocket-Version", version)))


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "get", "CONNECT"])
def test_only_get_opens_a_socket(method: str) -> None:
    with pytest.raises(UpgradeRequired):
        check_handshake(start(method=method), headers())


@pytest.mark.parametrize(
    "key",
    [
        "",
        "short",
        base64.b64encode(b"15 bytes only!!").decode(),
        base64.b64encode(b"seventeen bytes!!").decode(),
        KEY[:-2] + "__",
        KEY + "=",
        KEY + ", " + KEY,
        KEY.replace("G", " ", 1),
        "ä" * 24,
    ],
)
def test_a_key_that_is_not_sixteen_bytes_of_base64_is_refused(key: str) -> None:
    with pytest.raises(BadRequest):
        check_handshake(start(), headers(("Sec-WebSocket-Key", key)))


def test_a_missing_key_is_refused() -> None:
    with pytest.raises(BadRequest):
        check_handshake(start(), headers(without="Sec-WebSocket-Key"))


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0"])
def test_another_version_of_http_is_refused(version: str) -> None:
    with pytest.raises(BadRequest):
        check_handshake(start(version=version), headers())


@pytest.mark.parametrize(
    "extra",
    [
        ("Content-Length", "5"),
        ("Content-Length", "00"),
        ("Content-Length", "-1"),
        ("Transfer-Encoding", "chunked"),
    ],
)
def test_a_body_is_refused(extra: tuple[str, str]) -> None:
    with pytest.raises(BadRequest):
        check_handshake(start(), headers(extra))


def test_one_host_has_to_be_named() -> None:
    with pytest.raises(BadRequest):
        check_handshake(start(), headers(without="Host"))
    with pytest.raises(BadRequest):
        check_handshake(start(), headers(("Host", "one"), ("Host", "two")))


def test_a_target_may_be_long_but_not_endless() -> None:
    longest = "/ws?" + "a" * (MAX_TARGET_LENGTH - 4)
    assert check_handshake(start(longest), headers()) == ACCEPT
    with pytest.raises(BadRequest):
        check_handshake(start(longest + "a"), headers())


# ---- the answer ------------------------------------------------------------------------------


def head(*offers: str) -> list[str]:
    text = answer(ACCEPT, headers(*(("Sec-WebSocket-Protocol", offer) for offer in offers)))
    assert text.endswith(b"\r\n\r\n")
    return text.decode().split("\r\n")[:-2]


def test_the_answer_is_the_one_of_the_rfc() -> None:
    assert head() == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
    ]


@pytest.mark.parametrize(
    "offers",
    [
        ("usher.v1",),
        ("usher.v1, usher.bearer.x",),
        ("usher.bearer.x,usher.v1",),
        ("usher.bearer.x", "usher.v1"),
        ("chat, usher.v1, usher.v2",),
    ],
)
def test_usher_v1_is_the_only_subprotocol_that_comes_back(offers: tuple[str, ...]) -> None:
    assert head(*offers)[4:] == ["Sec-WebSocket-Protocol: usher.v1"]


@pytest.mark.parametrize("offer", ["chat", "usher.bearer.x", "USHER.V1", "usher.v10", "usher.v1x"])
def test_no_other_subprotocol_comes_back(offer: str) -> None:
    assert len(head(offer)) == 4


def test_no_extension_is_ever_agreed_to() -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate")
    assert b"xtension" not in answer(ACCEPT, headers(offer))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Unauthenticated("x"), 401, "Unauthorized"),
        (OriginRefused("x"), 403, "Forbidden"),
        (BadRequest("x"), 400, "Bad Request"),
        (UpgradeRequired("x"), 426, "Upgrade Required"),
        (StoreUnavailable("x"), 503, "Service Unavailable"),
    ],
)
def test_a_refusal_ends_the_connection_and_is_not_kept(
    error: UsherError, status: int, reason: str
) -> None:
    reported, words, fields = refusal(error)
    assert (reported, words) == (status, reason)
    assert fields["Connection"] == ("Upgrade, close" if status == 426 else "close")
    assert fields["Cache-Control"] == "no-store"
    assert ("WWW-Authenticate" in fields) == (status == 401)
    assert (fields.get("Sec-WebSocket-Version") == "13") == (status == 426)


# ---- credentials -----------------------------------------------------------------------------


def test_a_handshake_without_credentials_carries_none() -> None:
    assert presented() == []
    assert presented(("Sec-WebSocket-Protocol", "usher.v1, chat"), target="/ws?room=1") == []


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER  abc"])
def test_a_token_in_the_header_is_found(value: str) -> None:
    assert presented(("Authorization", value)) == [("header", "abc")]


@pytest.mark.parametrize("value", ["", "Basic eDp5", "Bearer", "abc", "Bearerabc", "Token abc"])
def test_another_authorization_counts_as_a_credential_that_is_invalid(value: str) -> None:
    assert presented(("Authorization", value)) == [("header", "")]


@pytest.mark.parametrize(
    ("offer", "text"),
    [
        ("usher.v1, usher.bearer.a.b.c", "a.b.c"),
        ("usher.bearer.a.b.c,usher.v1", "a.b.c"),
        ("usher.v1, usher.bearer.", ""),
    ],
)
def test_a_token_among_the_subprotocols_is_found(offer: str, text: str) -> None:
    assert presented(("Sec-WebSocket-Protocol", offer)) == [("subprotocol", text)]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("ticket=t.abc", "t.abc"),
        ("room=1&ticket=t.abc&x=", "t.abc"),
        ("ticket=t%2Eabc", "t.abc"),
        ("ticket=", ""),
    ],
)
def test_a_ticket_in_the_query_is_found(query: str, text: str) -> None:
    assert presented(target=f"/ws?{query}") == [("ticket", text)]


@pytest.mark.parametrize("query", ["tickets=1", "my-ticket=1", "x=ticket", "TICKET=1"])
def test_what_only_looks_like_a_ticket_is_none(query: str) -> None:
    assert presented(target=f"/ws?{query}") == []


def test_a_query_of_too_many_fields_is_refused() -> None:
    with pytest.raises(BadRequest):
        explicit_credentials(start("/ws?ticket=1" + "&a=1" * 40), headers())


def test_every_explicit_credential_is_found() -> None:
    found = presented(
        ("Authorization", "Bearer one"),
        ("Authorization", "Bearer two"),
        ("Sec-WebSocket-Protocol", "usher.bearer.three, usher.bearer.four"),
        target="/ws?ticket=five&ticket=six",
    )
    assert [text for _, text in found] == ["one", "two", "three", "four", "five", "six"]


def test_tokens_hold_one_socket_and_tickets_and_cookies_do_not() -> None:
    found = explicit_credentials(
        start("/ws?ticket=t"),
        headers(("Authorization", "Bearer a"), ("Sec-WebSocket-Protocol", "usher.bearer.b")),
    )
    assert [(c.way, c.is_bearer) for c in found] == [
        ("header", True),
        ("subprotocol", True),
        ("ticket", False),
    ]
    cookie = cookie_credential(headers(("Cookie", "access_token=c")), "access_token")
    assert cookie is not None
    assert not cookie.is_bearer


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("access_token=a.b.c", "a.b.c"),
        ("theme=dark; access_token=a.b.c; x=1", "a.b.c"),
        ('access_token="a.b.c"', "a.b.c"),
    ],
)
def test_the_cookie_of_that_name_is_found(value: str, text: str) -> None:
    cookie = cookie_credential(headers(("Cookie", value)), "access_token")
    assert cookie is not None
    assert cookie.text == text


@pytest.mark.parametrize("value", ["", "access_token=", "Access_token=a", "my_access_token=a", ";"])
def test_no_other_cookie_is_read_as_it(value: str) -> None:
    assert cookie_credential(headers(("Cookie", value)), "access_token") is None


_LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=200)


@given(_LATIN, _LATIN, _LATIN, _LATIN)
def test_any_input_of_an_unauthenticated_client_gets_a_response_or_a_refusal(
    query: str, authorization: str, protocol: str, cookie: str
) -> None:
    start_line = start(f"/ws?ticket={query}")
    made = HTTPHeaders(GOOD)
    made["Authorization"], made["Cookie"] = authorization, cookie
    made["Sec-WebSocket-Protocol"] = protocol
    made["Sec-WebSocket-Key"] = query
    for look in (check_handshake, explicit_credentials):
        with suppress(BadRequest, UpgradeRequired):
            look(start_line, made)
    cookie_credential(made, "access_token")
    assert b"usher.bearer" not in answer(ACCEPT, made)
