"""Calls to providers are bounded in time and size, whatever they answer."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import tracemalloc

import pytest

from services.oauth.errors import ProviderUnavailable
from services.oauth.http import MAX_BODY_BYTES, get_json
from tests.oauth.talkers import SECONDS, Saying, op, talking, within_bounds
from tests.support.faults import TRANSPORT_FAULTS
from tests.support.http_answers import Reply, bomb
from tests.support.oauth import hurried
from tests.support.provider import Provider
from tests.support.server import PATIENCE

__all__ = ["op"]


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
