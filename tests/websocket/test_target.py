"""websocket/target.py and plain_head.py below a path: both take the same requests for theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, RequestStartLine

from handlers.websocket.plain_head import plain_head, plain_head_below
from handlers.websocket.target import origin_form, target_below
from services.errors import BadRequest, NotFound
from tests.support.raw import handshake

PREFIX = "/team/usher"


def target(path: str, prefix: str = PREFIX) -> str:
    start = RequestStartLine("GET", path, "HTTP/1.1")
    return target_below(prefix)(start, HTTPHeaders()).path


def test_without_a_path_nothing_is_looked_at() -> None:
    assert target_below("") is origin_form
    assert plain_head_below("") is plain_head


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/team/usher/", "/"),
        ("/team/usher/?a=/team/usher/b", "/?a=/team/usher/b"),
        ("/team/usher/ws?ticket=t", "/ws?ticket=t"),
        ("/team/usher//x", "//x"),
        ("/team/usher/team/usher/x", "/team/usher/x"),
        ("http://h/team/usher/x?y", "/x?y"),
        ("/team/usher", "/team/usher"),
        ("/team/usher?a", "/team/usher?a"),
        ("/healthz", "/healthz"),
        ("/readyz?verbose", "/readyz?verbose"),
        ("/metrics", "/metrics"),
    ],
)
def test_the_routes_get_the_target_without_the_path(path: str, found: str) -> None:
    assert target(path) == found


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/ws",
        "/x",
        "*",
        "",
        "/team",
        "/team/",
        "/team/usherx",
        "/team/usher%2fx",
        "/Team/usher/x",
        "//team/usher/x",
        "/x/../team/usher/x",
        "/healthz/",
        "/x/healthz",
        "team/usher/x",
        "http://h/",
        "http://h/ws",
        "http://team/usher/x",
    ],
)
def test_any_other_target_is_not_found(path: str) -> None:
    with pytest.raises(NotFound, match="USHER_PUBLIC_URL_PATH=stripped"):
        target(path)


def test_a_malformed_target_is_refused_as_ever() -> None:
    with pytest.raises(BadRequest):
        target("http://u@h/team/usher/")


def test_a_plain_handshake_below_the_path_is_read_as_one_without() -> None:
    for query in ("", "?ticket=t.abc"):
        found, plain = (
            plain_head_below(PREFIX)(handshake(f"{PREFIX}/ws{query}") + b"\x81\x80mask"),
            plain_head(handshake(f"/ws{query}")),
        )
        assert found is not None
        assert plain is not None
        assert (found.start, dict(found.fields)) == (plain.start, dict(plain.fields))
        assert found.size == len(handshake(f"{PREFIX}/ws{query}"))


@given(
    st.lists(st.sampled_from([*"/team/usher/ws?x%.", "/ws", PREFIX, "/../"]), max_size=8).map(
        "".join
    )
)
def test_both_forms_of_the_socket_take_the_same_targets(path: str) -> None:
    head = plain_head_below(PREFIX)(handshake(path))
    try:
        is_socket = target(path).partition("?")[0] == "/ws"
    except (NotFound, BadRequest):
        is_socket = False
    assert (head is not None) == is_socket


@given(st.binary(max_size=40))
def test_no_bytes_before_the_path_make_a_handshake(noise: bytes) -> None:
    data = noise + handshake("/ws")[4:]
    found = plain_head_below(PREFIX)(data)
    assert found is None or data.startswith(b"GET /team/usher/ws")
