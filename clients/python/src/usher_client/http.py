"""Usher's HTTP calls: JSON in and out, errors as exceptions."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from usher_client.errors import Misuse, SecondFactorNeeded, StepUpNeeded, Unreachable, UsherError
from usher_client.version import __version__
from usher_client.wire import refusal, seconds

PROBLEM = "application/problem+json"
MAX_ANSWER_BYTES = 4 * 1024 * 1024
AGENT = f"usher-client/{__version__} (Python)"


def base_of(url: str) -> str:
    """The URL of a server, including its path prefix, without a trailing slash.

    Raises:
        Misuse: it is not an http or https URL, or contains a user, a query or a fragment.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Misuse("url: must be a URL such as https://usher.example")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise Misuse("url: must not contain a user, query or fragment")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _trust(base: str) -> ssl.SSLContext | bool:
    """The trusted certificate authorities. Loading them takes a while, and http needs none, for
    which the context is empty."""
    return True if base.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, repr=False)
class Answer:
    """An HTTP response of Usher or a proxy."""

    status: int
    headers: httpx.Headers
    content: bytes

    def parsed(self) -> Any:
        """Its JSON; None if it has none, such as a proxy's page."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None

    def date(self) -> float | None:
        """Its time by the server's clock, epoch seconds."""
        try:
            return parsedate_to_datetime(self.headers.get("Date", "")).timestamp()
        except (ValueError, TypeError):
            return None

    def json(self) -> Any:
        """The JSON of a successful response.

        Raises:
            UsherError: it is not successful; see `error`.
        """
        if self.status == httpx.codes.NO_CONTENT:
            return None
        body = self.parsed()
        if httpx.codes.is_success(self.status) and body is not None:
            return body
        raise self.error()

    def error(self) -> UsherError:
        """Its error. Only a problem document with a `code` is a response of Usher."""
        body, after = self.parsed(), retry_after(self.headers)
        is_problem = self.headers.get("Content-Type", "").startswith(PROBLEM)
        if not is_problem or not isinstance(body, dict) or not isinstance(body.get("code"), str):
            title = f"HTTP {self.status}, not from Usher"
            return Unreachable(title, status=self.status, retry_after=after)
        said = body.get("detail") or body.get("title")
        error = refusal(body["code"], said, status=self.status, retry_after=after)
        if isinstance(error, SecondFactorNeeded):
            error.challenge = str(body.get("challenge", ""))
        if isinstance(error, (SecondFactorNeeded, StepUpNeeded)):
            methods = body.get("methods")
            error.methods = tuple(map(str, methods)) if isinstance(methods, list) else ()
        return error


class Http:
    """Calls to one server. No redirect is followed, so a credential is sent to no other server.

    Args:
        base: as returned by `base_of`.
        timeout: seconds for one call, from its beginning to the end of the response.
        transport: another transport, for tests.
    """

    def __init__(
        self, base: str, timeout: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.base = base
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            base_url=base,
            timeout=timeout,
            follow_redirects=False,
            headers={"User-Agent": AGENT},
            transport=transport,
            verify=_trust(base),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """Like `fetch`, but returns the JSON of the response, or None if it has no body.

        Raises:
            Refused: Usher refused the call; one of the subclasses.
            Unreachable: no response, or not from Usher.
        """
        return (await self.fetch(method, path, **more)).json()

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one call.

        Raises:
            Unreachable: no response.
        """
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            request = self._client.build_request(method, path, json=body, data=form, headers=sent)
            # httpx limits each step; a body that arrives slowly would pass all of them.
            return await asyncio.wait_for(self._exchange(request), self._timeout)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            httpx.StreamError,
            UnicodeError,
            asyncio.TimeoutError,
        ) as error:
            # Not `from error`: errors of httpx contain the request, and so the credential.
            raise Unreachable(f"{method} {path}: {type(error).__name__}") from None

    async def _exchange(self, request: httpx.Request) -> Answer:
        answer = await self._client.send(request, stream=True)
        try:
            return Answer(answer.status_code, answer.headers, await _content(answer))
        finally:
            await answer.aclose()


async def _content(answer: httpx.Response) -> bytes:
    found = bytearray()
    async for part in answer.aiter_bytes():
        found += part
        if len(found) > MAX_ANSWER_BYTES:
            raise Unreachable("an incomplete response", status=answer.status_code)
    return bytes(found)


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait (RFC 9110 section 10.2.3); a date is relative to the `Date` of the
    response."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return seconds(int(text)) or None
    try:
        then, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return seconds((then - now).total_seconds()) or None
    except (ValueError, TypeError):
        return None
