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
    """The address of a server, with the path that it is below, without a slash at its end.

    Raises:
        Misuse: it is no http or https address, or holds a user, a query or a fragment.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Misuse("url: an address such as https://usher.example")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise Misuse("url: without user, query and fragment")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _trust(base: str) -> ssl.SSLContext | bool:
    """Whose certificates are good. Reading them takes a while, and http needs none: an empty
    context trusts nobody."""
    return True if base.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, repr=False)
class Answer:
    """An HTTP response, of Usher or of a proxy."""

    status: int
    headers: httpx.Headers
    content: bytes

    def parsed(self) -> Any:
        """Its JSON; None where it has none, such as a proxy's page."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None

    def date(self) -> float | None:
        """When it was given, by the server's clock: epoch seconds."""
        try:
            return parsedate_to_datetime(self.headers.get("Date", "")).timestamp()
        except (ValueError, TypeError):
            return None

    def json(self) -> Any:
        """The JSON of a successful response.

        Raises:
            UsherError: it is not; see `error`.
        """
        if self.status == httpx.codes.NO_CONTENT:
            return None
        body = self.parsed()
        if httpx.codes.is_success(self.status) and body is not None:
            return body
        raise self.error()

    def error(self) -> UsherError:
        """What it refuses: only a problem document with a `code` is Usher's own word."""
        body, after = self.parsed(), retry_after(self.headers)
        is_problem = self.headers.get("Content-Type", "").startswith(PROBLEM)
        if not is_problem or not isinstance(body, dict) or not isinstance(body.get("code"), str):
            title = f"HTTP {self.status}, not of Usher"
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
    """Calls to one server. It never follows a redirect: a credential stays where it was sent.

    Args:
        base: as `base_of` gives it.
        timeout: seconds for one call, from its beginning to the end of its answer.
        transport: another way to the server, for tests.
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
        """As `fetch`; gives the JSON of the answer, or None where that has no body.

        Raises:
            Refused: Usher's own answer, as one of its subclasses.
            Unreachable: no answer, or somebody else's.
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
        """One call.

        Raises:
            Unreachable: no answer.
        """
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            request = self._client.build_request(method, path, json=body, data=form, headers=sent)
            # httpx bounds each step; a body that drips would pass all of them.
            return await asyncio.wait_for(self._exchange(request), self._timeout)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            httpx.StreamError,
            UnicodeError,
            asyncio.TimeoutError,
        ) as error:
            # Not `from error`: httpx's errors carry the request, which has the credential.
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
            raise Unreachable("an answer without an end", status=answer.status_code)
    return bytes(found)


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait (RFC 9110 section 10.2.3); a date counts from the answer's own `Date`."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return seconds(int(text)) or None
    try:
        then, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return seconds((then - now).total_seconds()) or None
    except (ValueError, TypeError):
        return None
