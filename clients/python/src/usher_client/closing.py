"""A base class with `async with` for objects that have to be closed."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from usher_client.http import Http

C = TypeVar("C", bound="HttpOwner")


class HttpOwner:
    """An object with its own connections. Close it, or use it in `async with`."""

    _http: Http

    async def __aenter__(self: C) -> C:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
