"""One attempt: signed as the standard has it, bounded, and without going anywhere else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from services.secret import Secret
from services.webhooks.deliveries import Claimed, Outcome
from services.webhooks.outbox import body_of
from services.webhooks.sender import MAX_ANSWER_BYTES, Sender, new_secret, signature
from tests.support.server import PATIENCE, free_port
from tests.support.webhook_receiver import WebhookReceiver, webhook_receiver

ONE = Claimed(
    1,
    "w",
    "msg_1",
    "user.created",
    "user:u",
    body_of("user.created", 1.5, {"name": "Åsa"}),
    0,
    1.0,
    "c",
)


@pytest.fixture(scope="module")
def shared() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(shared: WebhookReceiver) -> WebhookReceiver:
    shared.received.clear()
    shared.answer = lambda *_: 204
    return shared


@asynccontextmanager
async def sending(private: bool = True, seconds: float = PATIENCE) -> AsyncIterator[Sender]:
    sender = Sender(private, 4, seconds=seconds)
    try:
        yield sender
    finally:
        sender.close()


def raw(text: bytes) -> Any:
    def answer(_: object, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(text)
        handler.close_connection = True

    return answer


@pytest.mark.gen_test
async def test_a_delivery_is_what_the_library_of_the_standard_verifies(
    receiver: WebhookReceiver,
) -> None:
    secret = new_secret()
    async with sending() as sender:
        assert await sender.send(receiver.url, secret, ONE) == Outcome(204)
    (came,) = receiver.received
    assert came.verify(secret.reveal()) == {
        "type": "user.created",
        "timestamp": "1970-01-01T00:00:01.500Z",
        "data": {"name": "Åsa"},
    }
    assert abs(int(came.headers["webhook-timestamp"]) - time.time()) < PATIENCE
    assert came.headers["Content-Type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        came.verify(new_secret().reveal())


def test_signatures_of_the_standard() -> None:
    # The example of the standard's own libraries.
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    body = ONE.body
    stamp = int(time.time())
    secret = new_secret()
    headers = {
        "webhook-id": "a",
        "webhook-timestamp": str(stamp),
        "webhook-signature": signature(secret, "a", stamp, body),
    }
    assert Webhook(secret.reveal()).verify(body, headers)


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [200, 201, 299])
async def test_any_2xx_is_a_delivery(receiver: WebhookReceiver, status: int) -> None:
    receiver.answer = lambda *_: status
    async with sending() as sender:
        assert await sender.send(receiver.url, new_secret(), ONE) == Outcome(status)


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [304, 400, 401, 404, 410, 429, 500, 503])
async def test_anything_else_is_none(receiver: WebhookReceiver, status: int) -> None:
    receiver.answer = lambda *_: status
    async with sending() as sender:
        word = "redirect" if status == 304 else "status"
        assert await sender.send(receiver.url, new_secret(), ONE) == Outcome(status, word)


@pytest.mark.gen_test
async def test_a_redirect_is_not_followed(receiver: WebhookReceiver) -> None:
    where = receiver.url.encode()
    text = b"HTTP/1.1 307 Go\r\nLocation: " + where + b"\r\nContent-Length: 0\r\n\r\n"
    receiver.answer = raw(text)
    async with sending() as sender:
        assert await sender.send(receiver.url, new_secret(), ONE) == Outcome(307, "redirect")
    assert len(receiver.received) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("length", [True, False])
async def test_of_a_long_answer_the_status_counts(
    receiver: WebhookReceiver, status: int, length: bool
) -> None:
    size = MAX_ANSWER_BYTES * 1000
    head = f"HTTP/1.1 {status} X\r\n" + (f"Content-Length: {size}\r\n" if length else "")
    receiver.answer = raw(head.encode() + b"\r\n" + b"x" * size)
    async with sending() as sender:
        outcome = await sender.send(receiver.url, new_secret(), ONE)
    assert outcome == Outcome(status, None if status == 200 else "status")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "text",
    [b"", b"x\r\n\r\n", b"HTTP/1.1 999999\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000],
)
async def test_what_is_no_answer_is_a_failure(receiver: WebhookReceiver, text: bytes) -> None:
    receiver.answer = raw(text)
    async with sending() as sender:
        outcome = await sender.send(receiver.url, new_secret(), ONE)
    assert outcome.error in ("closed", "protocol")


@pytest.mark.gen_test
async def test_an_answer_that_does_not_come_is_a_timeout(receiver: WebhookReceiver) -> None:
    receiver.answer = receiver.hang
    async with sending(seconds=0.3) as sender:
        assert await sender.send(receiver.url, new_secret(), ONE) == Outcome(error="timeout")


@pytest.mark.gen_test
async def test_a_port_without_a_listener_is_a_failure() -> None:
    async with sending() as sender:
        for url, word in (
            (f"http://127.0.0.1:{free_port()}/", "connect"),
            ("http://nobody.invalid/", "unknown_host"),
            (f"http://{'x' * 64}.example/", "unknown_host"),
        ):
            assert await sender.send(url, new_secret(), ONE) == Outcome(error=word)


@pytest.mark.gen_test
async def test_tls_is_demanded_where_it_is_said(receiver: WebhookReceiver) -> None:
    async with sending() as sender:
        outcome = await sender.send(f"https://127.0.0.1:{receiver.port}/", new_secret(), ONE)
    assert outcome == Outcome(error="tls")
    assert not receiver.received


@pytest.mark.gen_test
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "2130706433"])
async def test_a_private_address_is_not_connected_to(receiver: WebhookReceiver, host: str) -> None:
    """A name that was public when the webhook was made and leads here now is such a name."""
    async with sending(private=False) as sender:
        outcome = await sender.send(f"http://{host}:{receiver.port}/", new_secret(), ONE)
    assert outcome == Outcome(error="address_refused")
    assert not receiver.received
