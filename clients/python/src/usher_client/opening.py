"""Opens a WebSocket, or returns how the attempt ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from usher_client.errors import End, Misuse
from usher_client.http import AGENT, retry_after
from usher_client.socket import CLOSE_SECONDS, Connection, CountingConnection, Frame, Times
from usher_client.wire import MAX_RECEIVED_BYTES, PROTOCOL

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # it takes no parameter before Python 3.11


class QuietLog(_Adapter):
    """The log of websockets without the debug level, which contains headers and frames, and so
    tokens."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        return level > logging.DEBUG and super().isEnabledFor(level)


class _Connector(connect):
    """Follows no redirect, because the handshake contains the token for this server."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_connection(
    base: str,
    token: str,
    times: Times,
    on_frame: Callable[[Frame], None],
    on_heartbeat: Callable[[float], None],
    max_pending: int,
) -> Connection | End:
    """Open a socket, or return how the attempt ended.

    Args:
        base: the server's http or https URL.
        token: an access token.
    """
    try:
        opening = _Connector(
            f"ws{base[4:]}/ws",
            subprotocols=[Subprotocol(PROTOCOL), Subprotocol(f"usher.bearer.{token}")],
            user_agent_header=AGENT,
            compression=None,
            open_timeout=times.timeout,
            close_timeout=CLOSE_SECONDS,
            ping_interval=None,
            max_size=MAX_RECEIVED_BYTES,
            create_connection=CountingConnection,
            logger=QuietLog(logging.getLogger("usher_client.websocket"), None),
        )
        line = await opening
    except ValueError as error:  # the token has characters that a header cannot contain
        raise Misuse("the token cannot be sent") from error
    except InvalidStatus as error:
        return _refused(error)
    except (OSError, WebSocketException, asyncio.TimeoutError):
        return End(1006, "unreachable")
    assert isinstance(line, CountingConnection)
    return Connection(line, times, on_frame, on_heartbeat, max_pending)


def _refused(error: InvalidStatus) -> End:
    """A handshake that was answered with a status.

    Usher refuses a token in the subprotocol with a close code. A response with a status was sent
    before the credential was checked, or by a proxy, so none of them ends a client.
    """
    status = error.response.status_code
    after = retry_after_of(error)
    if status == 429:
        return End(4429, "rate_limited", after=after)
    return End(4503, f"http_{status}", after=after)


def retry_after_of(error: InvalidStatus) -> float:
    """The pause that the response requests, in seconds."""
    found = error.response.headers
    wanted = {name: found[name] for name in ("Retry-After", "Date") if name in found}
    return retry_after(httpx.Headers(wanted)) or 0.0
