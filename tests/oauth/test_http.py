"""Calls to providers: bounded in time and size, without redirects, and encrypted."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from services.oauth.errors import ProviderUnavailable
from services.oauth.http import MAX_BODY_BYTES, bounded, get_json, is_safe_url, why
from tests.support.faults import TRANSPORT_FAULTS
from tests.support.http_answers import Reply, bomb
from tests.support.http_service import Seen, Service
from tests.support.oauth import hurried
from tests.support.provider import Provider, provider
from tests.support.redis_forms import certificate
from tests.support.server import PATIENCE

SECONDS = 0.7
"""For one call in these tests, in place of those that people wait for."""
WIDE = 6.0
"""What such a call takes at most on a busy machine, and the eight seconds do not."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@contextmanager
def within_bounds() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < WIDE


class Saying(Service):
    """Says one thing to everybody."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply

    def answer(self, seen: Seen) -> Reply:
        return self.reply


@contextmanager
def talking(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """The port of a server that does this with its first connection, until the event."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as peer:
            try:
                talk(peer, over)
            except OSError:
                return  # hung up on

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join(PATIENCE)
    assert not thread.is_alive()


# ---- time and size -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", sorted(TRANSPORT_FAULTS))
def test_each_network_fault_is_a_timeout_or_no_response(op: Provider, fault: str) -> None:
    op.misbehave(discovery=fault)
    op.drip_interval = 0.05
    with within_bounds(), hurried(fault, SECONDS):
        try:
            document, _ = get_json(op.url("discovery"))
        except ProviderUnavailable:
            pass
        else:  # sound JSON, and of no use to whoever reads it
            assert fault == "json_array"
            assert document == ["a", "list"]
    assert op.elsewhere.requests == []
    op.behave()
    assert get_json(op.url("discovery"))[0]["issuer"] == op.issuer


@pytest.mark.parametrize("fault", ["slow", "held", "drip", "drip_headers"])
def test_what_was_cut_off_is_said_in_the_log(op: Provider, fault: str) -> None:
    op.misbehave(discovery=fault)
    op.drip_interval = 0.05
    # Where nothing comes at all the limit of a single read ends just behind that of the whole
    # call, and on a busy machine now and then before it.
    reported = r"no complete response within 0\.7 s"
    if fault in {"slow", "held"}:
        reported += "|ReadTimeout"
    with hurried(seconds=SECONDS), pytest.raises(ProviderUnavailable, match=reported):
        get_json(op.url("discovery"))


def test_a_body_of_unknown_length_that_drips_is_cut_off_and_not_taken_for_whole() -> None:
    def drip(peer: socket.socket, over: threading.Event) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}")
        while not over.wait(0.05):
            peer.sendall(b" ")  # the document is whole, and goes on

    with (
        talking(drip) as port,
        within_bounds(),
        hurried(seconds=SECONDS),
        pytest.raises(ProviderUnavailable) as caught,
    ):
        get_json(f"http://127.0.0.1:{port}/")
    assert "cut off" in caught.value.evidence or "no complete response" in caught.value.evidence


def test_a_handshake_of_tls_that_drips_is_cut_off() -> None:
    def drip(peer: socket.socket, over: threading.Event) -> None:
        peer.recv(65536)
        peer.sendall(struct.pack("!BHH", 22, 0x0303, 16000))  # a handshake record, to come
        while not over.wait(0.05):
            peer.sendall(b"\2")

    with (
        talking(drip) as port,
        within_bounds(),
        hurried(seconds=SECONDS),
        pytest.raises(ProviderUnavailable),
    ):
        get_json(f"https://127.0.0.1:{port}/")


def test_a_connection_that_comes_about_too_late_carries_no_request(
    op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = socket.getaddrinfo

    def slow(*args: object, **options: object) -> object:
        threading.Event().wait(2 * SECONDS)  # a name server that takes its time
        return known(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with hurried(seconds=SECONDS), pytest.raises(ProviderUnavailable):
        get_json(op.url("discovery"))
    assert op.requests == []


def test_a_bomb_is_not_unpacked(op: Provider) -> None:
    op.misbehave(discovery="bomb")
    bomb()  # made before memory is measured
    tracemalloc.start()
    try:
        with pytest.raises(ProviderUnavailable, match=f"more than {MAX_BODY_BYTES} bytes"):
            get_json(op.url("discovery"))
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_BODY_BYTES
    finally:
        tracemalloc.stop()


def test_a_bomb_in_chunks_is_not_unpacked_either() -> None:
    packed = bomb()

    def send(peer: socket.socket, over: threading.Event) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n")
        peer.sendall(b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed))
        over.wait(PATIENCE)

    with talking(send) as port:
        tracemalloc.start()
        try:
            with pytest.raises(ProviderUnavailable, match=f"more than {MAX_BODY_BYTES} bytes"):
                get_json(f"http://127.0.0.1:{port}/")
            assert tracemalloc.get_traced_memory()[1] < 8 * MAX_BODY_BYTES
        finally:
            tracemalloc.stop()


def test_an_endless_body_is_left_after_half_a_megabyte(op: Provider) -> None:
    op.misbehave(discovery="endless")
    with pytest.raises(ProviderUnavailable, match=f"more than {MAX_BODY_BYTES} bytes"):
        get_json(op.url("discovery"))
    assert op.sent[op.path("discovery")] < 64 * MAX_BODY_BYTES  # the rest was in buffers


def test_an_honest_answer_may_be_packed_and_as_large_as_a_large_key_set() -> None:
    body = b'{"padding": "%s"}' % (b"x" * (MAX_BODY_BYTES - 20))
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    for reply in (Reply(200, body), Reply(200, gzip.compress(body), packed)):
        with Saying(reply) as service:
            assert len(get_json(service.origin)[0]["padding"]) == MAX_BODY_BYTES - 20


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
