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
        key: an API key. Publishing takes the scope `publish`.
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
        """Send an event to everybody in a room, or in several, on every node.

        Args:
            rooms: `channel:ID` or `user:ID`, 100 at most.
            event: a name of your own; `message` is the only one of Usher's that may be used.
            keep: who is away gets it from the history, too.
            idempotency_key: with the same one it is sent once in an hour: try again with it after
                Unreachable or Unavailable.

        Raises:
            NotFound: one of the rooms does not exist, and nothing was sent.
            BadRequest: it names the member that is wrong.
            Refused: the key is not good for this.
            Unavailable, Unreachable: it may have been sent or not.
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
        """Any other call that the key's scopes allow; gives the JSON of its answer."""
        return await self._http.call(method, path, token=self._key, body=body, headers=headers)
