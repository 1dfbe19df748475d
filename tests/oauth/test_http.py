"""Calls to providers: without redirects, encrypted, and what counts as an answer."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
import requests

from services.oauth.errors import ProviderUnavailable
from services.oauth.http import bounded, get_json, is_safe_url, why
from tests.oauth.talkers import SECONDS, Saying, op, talking, within_bounds
from tests.support.http_answers import Reply
from tests.support.oauth import hurried
from tests.support.provider import Provider
from tests.support.redis_forms import certificate
from tests.support.server import PATIENCE

__all__ = ["op"]

# ---- where it goes -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["redirect_here", "redirect_loop", "redirect_elsewhere"])
def test_redirects_are_not_followed(op: Provider, fault: str) -> None:
    op.misbehave(discovery=fault)
    with pytest.raises(ProviderUnavailable, match="a redirect"):
        get_json(op.url("discovery"), {"Authorization": "Bearer secret"})
    assert len(op.requests) == 1
    assert op.elsewhere.requests == []


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_nor_is_a_redirect_without_a_target_an_answer(status: int) -> None:
    with Saying(Reply(status, b"{}")) as service, pytest.raises(ProviderUnavailable):
        get_json(service.origin)


@pytest.mark.parametrize(
    "url",
    [
        "https://idp.example",
        "https://idp.example:8443/realms/usher?kind=1",
        "https://127.0.0.1/",
        "HTTPS://idp.example/",
        "http://127.0.0.1:8080/",
        "http://127.8.9.1/",
        "http://localhost/",
        "http://LocalHost:80/",
        "http://[::1]:8080/",
    ],
)
def test_secrets_may_go_to_https_and_to_this_machine(url: str) -> None:
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "idp.example",
        "//idp.example/",
        "https://",
        "https:///path",
        "http://idp.example/",
        "http://10.0.0.1/",
        "http://192.0.2.1:8080/",
        "http://localhost.example/",
        "http://127.0.0.1.example/",
        "http://127.0.0.1@idp.example/",
        "http://idp.example\\@127.0.0.1/",
        "http://2130706433/",
        "http://0/",
        "http://0x7f000001/",
        "http://[::1",
        "http://[::ffff:192.0.2.1]/",
        "https://user@idp.example/",
        "https://user:secret@idp.example/",
        "https://idp.example/#fragment",
        "https://idp.example/a b",
        "https://idp.example/\n",
        "https://idp\x00.example/",
        "https://bücher.example/",
        "file:///etc/passwd",
        "ftp://idp.example/",
        "javascript:alert(1)",
        "data:application/json,{}",
        "unix:///run/idp.sock",
    ],
)
def test_and_nowhere_else(url: str) -> None:
    assert not is_safe_url(url)
    with pytest.raises(ProviderUnavailable):
        get_json(url)


def test_a_netrc_of_the_machine_is_not_used(
    op: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth(op.origin) is not None
    get_json(op.url("discovery"))
    assert "Authorization" not in op.requests[0].headers


def test_plain_http_to_loopback_uses_no_proxy(
    op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, op.elsewhere.origin)
    assert get_json(op.url("discovery"))[0]["issuer"] == op.issuer
    assert op.elsewhere.requests == []


def test_an_unverified_certificate_is_refused(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path))
    got: list[bytes] = []

    def serve(peer: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(peer, server_side=True) as secured:
            got.append(secured.recv(65536))

    with talking(serve) as port, pytest.raises(ProviderUnavailable, match="SSLError"):
        get_json(f"https://127.0.0.1:{port}/", {"Authorization": "Bearer secret"})
    assert b"".join(got) == b""


# ---- what comes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"n": %s}' % (b"1" * 5000), "application/json"),
        (b'{"n": NaN}', "application/json"),
        (b'{"n": "\xff"}', "application/json"),
        (b"{\x00}", "application/json"),
        (b'{"n": 1}'.decode().encode("utf-16"), "application/json; charset=utf-16"),
        (b"{}-" + b"a" * 1000, "application/json; charset=punycode"),
        (b"{\xff", "application/json; charset=idna"),
        (b"{\\u", "application/json; charset=unicode_escape"),
    ],
)
def test_what_is_no_json_in_utf_8_is_no_answer(body: bytes, content_type: str) -> None:
    reply = Reply(200, body, {"Content-Type": content_type})
    with Saying(reply) as service, within_bounds(), pytest.raises(ProviderUnavailable):
        get_json(service.origin)


@pytest.mark.parametrize("content_type", ["application/json; charset=latin-1", "text/plain", "x"])
def test_json_is_read_as_utf_8_whatever_it_is_said_to_be(content_type: str) -> None:
    reply = Reply(200, '{"name": "Zoë"}'.encode(), {"Content-Type": content_type})
    with Saying(reply) as service:
        assert get_json(service.origin)[0] == {"name": "Zoë"}
    with Saying(Reply(200, b"\xef\xbb\xbf" + reply.body)) as service:
        assert get_json(service.origin)[0] == {"name": "Zoë"}


def test_a_charset_that_takes_long_to_decode_is_not_heeded() -> None:
    # Punycode takes time with the square of the length.
    body = b'{"name": "%s"}-' % (b"a" * 1000) + b"9" * 200_000
    reply = Reply(200, body, {"Content-Type": "application/json; charset=punycode"})
    with Saying(reply) as service, within_bounds(), pytest.raises(ProviderUnavailable):
        get_json(service.origin)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 502, 503])
def test_an_error_is_no_answer_unless_it_means_that_there_is_none(status: int) -> None:
    with Saying(Reply(status, b'{"issuer": "x"}')) as service:
        with pytest.raises(ProviderUnavailable, match=f"status {status}"):
            get_json(service.origin)
        if status < 429:
            assert get_json(service.origin, absent=frozenset((status,)))[0] is None


def test_a_closed_port_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderUnavailable, match="ConnectionError"):
        get_json(f"http://127.0.0.1:{port}/")


def test_the_evidence_names_the_place_and_nothing_that_was_sent(op: Provider) -> None:
    op.misbehave(discovery="closes")
    with pytest.raises(ProviderUnavailable) as caught:
        get_json(op.url("discovery") + "?code=abc", {"Authorization": "Bearer secret"})
    assert op.path("discovery") in caught.value.evidence
    assert "abc" not in caught.value.evidence
    assert "secret" not in caught.value.evidence
    assert "abc" not in why(requests.ConnectionError("http://x/?code=abc"))


def test_a_session_may_be_used_twice_and_is_watched_both_times(op: Provider) -> None:
    op.drip_interval = 0.05
    with bounded(requests.Session()) as session:
        assert session.get(op.url("jwks")).json()["keys"]
        op.misbehave(jwks="drip")
        expected = pytest.raises(requests.RequestException, match="no complete response")
        with within_bounds(), hurried(seconds=SECONDS), expected:
            session.get(op.url("jwks"))


def test_no_thread_and_no_connection_is_left(op: Provider) -> None:
    before = threading.active_count()
    for fault in ("redirect_here", "closes", "not_json", "http_500", ()):
        op.misbehave(discovery=fault)
        try:
            get_json(op.url("discovery"))
        except ProviderUnavailable:
            continue
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(PATIENCE)
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())
    assert threading.active_count() <= before + 1  # the provider's own, for the last request
