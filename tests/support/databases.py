"""The same test on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from services.database import Database
from tests.support.postgres import postgres_server

KINDS = ("sqlite", "postgresql")


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database of this kind."""
    with ExitStack() as stack:
        if kind == "sqlite":
            yield f"sqlite:///{folder / 'usher.db'}"
        else:
            yield stack.enter_context(postgres_server().database())


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[Database]:
    database = await Database.open(url, **options)  # type: ignore[arg-type]
    try:
        yield database
    finally:
        await database.close()
