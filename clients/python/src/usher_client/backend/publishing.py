"""Events from a backend to users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usher_client.closing import HttpOwner
from usher_client.http import Http, base_of


class Backend(HttpOwner):
    """Calls of a backend.

    Args:
        url: the server.
        key: an API key. Publishing requires the scope `publish`.
        timeout: seconds for one call.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 10.0) -> None:
        self._http = Http(base_of(url), timeout)
        self._key = key

    def __repr__(self) -> str:
        return f"Backend({self._http.base!r})"

    async def publish(
        self,
        rooms: str | Sequence[str],
        event: str,
        data: object = None,
        keep: bool = False,
        idempotency_key: str | None = None,
    ) -> None:
        """Send an event to all members of a room, or of several, on every node.

        Args:
            rooms: `channel:ID` or `user:ID`, at most 100.
            event: a name of your own; of Usher's names, only `message` is allowed.
            keep: whether to store it in the history, for users who are not connected.
            idempotency_key: the same key sends only once within an hour: use it to retry after
                Unreachable or Unavailable.

        Raises:
            NotFound: one of the rooms does not exist, and nothing was sent.
            BadRequest: the message names the invalid member.
            Refused: the key is invalid or lacks the scope.
            Unavailable, Unreachable: it may or may not have been sent.
        """
        body: dict[str, object] = {"event": event, "data": data, "keep": keep}
        body |= {"room": rooms} if isinstance(rooms, str) else {"rooms": list(rooms)}
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        await self.call("POST", "/api/publish", body, headers=headers)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Make any other call that the key's scopes allow. Returns the JSON of the response."""
        return await self._http.call(method, path, token=self._key, body=body, headers=headers)
