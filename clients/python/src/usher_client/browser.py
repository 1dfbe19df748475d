"""Signing in with the system's browser (RFC 8252): a loopback address, PKCE, one code."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import webbrowser
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from usher_client.errors import SignInRefused, TimedOut

MAX_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 10.0
MAX_VISITORS = 16
PATH = "/callback"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font: 1.1em system-ui; margin: 4em auto; max-width: 30em"><h1>{title}</h1>
<p>{text}</p></body></html>
"""
HEADERS = (
    "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n"
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
    "Referrer-Policy: no-referrer\r\nConnection: close\r\n"
)
OpenBrowser = Callable[[str], "object | Awaitable[object]"]


@dataclass(frozen=True, repr=False)
class Code:
    """An authorization code, which can be exchanged for tokens once."""

    code: str
    code_verifier: str
    redirect_uri: str


async def open_system_browser(url: str) -> None:
    """Open the page in the user's browser, without blocking."""
    await asyncio.to_thread(webbrowser.open, url)


async def sign_in(
    base: str, provider: str | None, open_browser: OpenBrowser, timeout: float
) -> Code:
    """Let the user sign in on a page of the server or a provider.

    Args:
        base: the server's URL.
        provider: its name; None for the server's page, where the user chooses.
        open_browser: opens a URL, or shows it to the user.
        timeout: seconds that the user has.

    Raises:
        SignInRefused: the response was an error; `code` is that of OAuth (`access_denied`, …).
        TimedOut: the browser did not return.
    """
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    came_back: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    desk = _Desk(state, came_back)
    server = await asyncio.start_server(desk.serve, "127.0.0.1", 0, limit=MAX_REQUEST_BYTES)
    try:
        port = server.sockets[0].getsockname()[1]
        redirect_uri = f"http://127.0.0.1:{port}{PATH}"
        query = {
            "client": "native",
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        page = "/sign-in" if provider is None else f"/oauth/{quote(provider, safe='')}/login"
        opened = open_browser(f"{base}{page}?{urlencode(query)}")
        if isawaitable(opened):
            await opened
        try:
            found = await asyncio.wait_for(came_back, timeout)
        except asyncio.TimeoutError:
            raise TimedOut("the browser did not return in time") from None
    finally:
        server.close()
    _check(found, base)
    return Code(found["code"], verifier, redirect_uri)


def challenge_of(verifier: str) -> str:
    """The code challenge of a verifier, S256 (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _check(found: dict[str, str], base: str) -> None:
    if error := found.get("error"):
        raise SignInRefused(f"the sign-in ended with {error}", code=error)
    # RFC 9207: a response of another server is refused.
    if (issuer := found.get("iss")) is not None and not same_server(issuer, base):
        raise SignInRefused(f"the response is from {issuer}, not from {base}", code="wrong_issuer")
    if not found.get("code"):
        raise SignInRefused("the response has no code", code="no_code")


def same_server(one: str, other: str) -> bool:
    """Whether two URLs name one server. All loopback names count as the same, because a server may
    announce another one than the client uses."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = "localhost" if host in {"127.0.0.1", "::1"} else host
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, host, port, parts.path.rstrip("/")


class _Desk:
    """Receives the browser's redirect, once. Other requests to this port get no information."""

    def __init__(self, state: str, came_back: asyncio.Future[dict[str, str]]) -> None:
        self._state = state
        self._came_back = came_back
        self._visitors = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._visitors += 1
        try:
            if self._visitors <= MAX_VISITORS:
                await asyncio.wait_for(self._answer(reader, writer), REQUEST_SECONDS)
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            pass  # not a browser, or gone
        except asyncio.LimitOverrunError:
            pass  # an incomplete request
        finally:
            self._visitors -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split("\r\n", 1)[0].split(" ", 2)
        found = self._of(method, target)
        if found is None:
            status, title, text = "404 Not Found", "Not here", "There is nothing at this address."
        elif "error" in found:
            status, title, text = "200 OK", "Not signed in", "You can close this window."
        else:
            status, title, text = "200 OK", "Signed in", "You can close this window."
        body = PAGE.format(title=title, text=text).encode()
        writer.write(f"HTTP/1.1 {status}\r\n{HEADERS}Content-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()
        if found is not None and not self._came_back.done():
            self._came_back.set_result(found)

    def _of(self, method: str, target: str) -> dict[str, str] | None:
        """The parameters of the response, if this request is the redirect."""
        parts = urlsplit(target)
        if method != "GET" or parts.path != PATH:
            return None
        members = parse_qs(parts.query)
        if any(len(values) != 1 for values in members.values()):
            return None  # a repeated parameter is refused (RFC 6749 section 3.1)
        found = {name: values[0] for name, values in members.items()}
        given = found.get("state", "").encode()
        return found if hmac.compare_digest(given, self._state.encode()) else None
