"""One attempt of a delivery: a signed POST, bounded in time and size, without redirects.

The signature is that of https://www.standardwebhooks.com: HMAC-SHA-256 over `id.timestamp.body`
with the bytes that stand in Base64 behind `whsec_`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import socket
import ssl
import time
from collections.abc import Callable

from tornado.httpclient import HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.simple_httpclient import (
    HTTPStreamClosedError,
    HTTPTimeoutError,
    SimpleAsyncHTTPClient,
)

from services.secret import Secret
from services.webhooks.addresses import AddressRefused, GuardedResolver
from services.webhooks.deliveries import Claimed, Outcome

SECRET_PREFIX = "whsec_"  # noqa: S105 - how secrets begin, not one
SECRET_BYTES = 32
ATTEMPT_SECONDS = 10.0
"""For one attempt, from the name server to the last byte that is read."""
MAX_ANSWER_BYTES = 4096
"""Bytes of a response that are read. Only the status is used."""
MAX_HEADER_BYTES = 16 * 1024
LOOK_UPS = 64
"""Names that are resolved at one time: more than there may be webhooks."""
USER_AGENT = "usher-webhooks"
REDIRECT, STATUS, PROTOCOL = "redirect", "status", "protocol"


def new_secret() -> Secret:
    """A secret for one webhook."""
    return Secret(SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def signature(secret: Secret, event_id: str, timestamp: int, body: str) -> str:
    """The header `webhook-signature`.

    Args:
        timestamp: epoch seconds of the attempt.

    Raises:
        ValueError: the secret is malformed.
    """
    try:
        key = base64.b64decode(secret.reveal().removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("not a secret of a webhook") from error
    signed = f"{event_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Sender:
    """Sends deliveries. Create it on the event loop that it runs on.

    Args:
        private: whether private addresses are allowed.
        at_once: the most concurrent attempts.
        clock: epoch seconds, for the time stamp in the signature.
        seconds: the timeout of one attempt.
    """

    def __init__(
        self,
        private: bool,
        at_once: int,
        clock: Callable[[], float] = time.time,
        seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._clock, self._seconds = clock, seconds
        self._resolver = GuardedResolver(private=private, threads=LOOK_UPS)
        self._client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=2 * at_once,
            resolver=self._resolver,
            max_body_size=MAX_ANSWER_BYTES,
            max_buffer_size=MAX_ANSWER_BYTES + MAX_HEADER_BYTES,
            max_header_size=MAX_HEADER_BYTES,
        )

    async def send(self, url: str, secret: Secret, one: Claimed) -> Outcome:
        """Make one attempt. Errors are returned as its outcome."""
        status: list[int] = []

        def header(line: str) -> None:
            if line.startswith("HTTP/"):
                status[:] = [int(line.split(" ")[1])]

        at = int(self._clock())
        request = HTTPRequest(
            url,
            method="POST",
            headers={
                "Content-Type": "application/json",
                "webhook-id": one.event_id,
                "webhook-timestamp": str(at),
                "webhook-signature": signature(secret, one.event_id, at, one.body),
            },
            body=one.body,
            connect_timeout=self._seconds,
            request_timeout=self._seconds,
            follow_redirects=False,
            decompress_response=False,
            user_agent=USER_AGENT,
            header_callback=header,
        )
        try:
            fetched = self._client.fetch(request, raise_error=False)
            answer = await asyncio.wait_for(fetched, self._seconds + 1.0)
            return _outcome_of_status(answer.code)
        except Exception as error:  # noqa: BLE001 - whatever it is, of names, TLS or HTTP: it failed
            # The body does not matter, even if it is too long or does not end in time.
            return _outcome_of_status(status[-1]) if status else Outcome(error=_word(error))

    def close(self) -> None:
        """Abort attempts in progress."""
        self._client.close()
        self._resolver.close()


def _outcome_of_status(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status)
    return Outcome(status, REDIRECT if 300 <= status < 400 else STATUS)


def _word(error: Exception) -> str:
    for kinds, word in _WORDS:
        if isinstance(error, kinds):
            return word
    return PROTOCOL


_WORDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((AddressRefused,), "address_refused"),
    ((socket.gaierror, UnicodeError), "unknown_host"),
    ((HTTPTimeoutError, asyncio.TimeoutError), "timeout"),
    ((ssl.SSLError, ssl.CertificateError), "tls"),
    ((HTTPStreamClosedError, StreamClosedError), "closed"),
    ((OSError,), "connect"),
)
"""The first that fits counts: some are kinds of others."""
ERRORS = (REDIRECT, STATUS, *(word for _, word in _WORDS), PROTOCOL)
"""All values of a delivery's `error`."""
