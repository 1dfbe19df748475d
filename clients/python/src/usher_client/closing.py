"""Base classes with `async with` for objects that have to be closed."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from usher_client.http import Http

C = TypeVar("C", bound="Closable")


class Closable:
    """An object that is closed at the end of `async with`."""

    async def __aenter__(self: C) -> C:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        raise NotImplementedError


class HttpOwner(Closable):
    """An object with its own connections. Close it, or use it in `async with`."""

    _http: Http

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _end(self) -> None:
        await self.close()
