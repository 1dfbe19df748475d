"""The models that `usage` may name: rows in the database, cached in Redis for every node.

While none is registered, any name may be used.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import peewee

from models.backend import UsageModel
from services.accounts.display_names import checked_text
from services.errors import BadRequest, NotFound
from services.redis.store import Command, Store
from services.storage.database import Database

REGISTRY_KEY = "usher:{models}:titles"
LOADED = b""
"""A field that no model has: how many models there are, and that they were read at all."""
REGISTRY_SECONDS = 60
"""Read anew from the rows after so long, whatever Redis missed."""
MAX_ID_LENGTH, MAX_TITLE_LENGTH = 128, 200


class ModelRow(msgspec.Struct, frozen=True):
    """A registered model."""

    id: str
    title: str


class ModelRegistry:
    """Registers, lists and removes models."""

    def __init__(
        self, database: Database, store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._store, self._clock = database, store, clock

    async def is_known(self, model: str) -> bool:
        """Whether `usage` may name this model.

        Raises:
            StoreUnavailable, DatabaseUnavailable: the look-up failed.
        """
        title, count = await self._store.call(
            ("HGET", REGISTRY_KEY, model), ("HGET", REGISTRY_KEY, LOADED)
        )
        if count is None:
            rows = await self._load()
            return not rows or any(row.id == model for row in rows)
        return title is not None or int(count) == 0

    async def _load(self) -> list[ModelRow]:
        rows = await self.all()
        fields: list[str | bytes | int] = [LOADED, len(rows)]
        for row in rows:
            fields += [row.id, row.title]
        put: Command = ("HSET", REGISTRY_KEY, *fields)
        await self._store.call(put, ("EXPIRE", REGISTRY_KEY, REGISTRY_SECONDS))
        return rows

    async def all(self) -> list[ModelRow]:
        """The registered models, by id."""
        return await self._database.run(_all)

    async def put(self, model: str, title: str) -> ModelRow:
        """Register a model, or change its title.

        Raises:
            BadRequest: the id or the title has invisible characters.
        """
        if checked_text(model, "model_id", MAX_ID_LENGTH) != model:
            raise BadRequest.of("model_id", "invisible characters")
        shown = checked_text(title, "title", MAX_TITLE_LENGTH)
        await self._database.run(_put, model, shown)
        self._forget()
        return ModelRow(model, shown)

    async def remove(self, model: str) -> None:
        """Remove a model.

        Raises:
            NotFound: the model is not registered.
        """
        # PostgreSQL accepts no NUL character, not even in a comparison.
        if "\0" in model or not await self._database.run(_remove, model):
            raise NotFound("no such model")
        self._forget()

    def _forget(self) -> None:
        """Invalidate the cache in Redis. Without Redis there is no cache."""
        self._store.tell(("DEL", REGISTRY_KEY))


def _all(db: peewee.Database) -> list[ModelRow]:
    rows = UsageModel.select().order_by(UsageModel.id).execute(db)
    return [ModelRow(row.id, row.title) for row in rows]


def _put(db: peewee.Database, model: str, title: str) -> None:
    UsageModel.insert(id=model, title=title).on_conflict(
        conflict_target=[UsageModel.id], update={UsageModel.title: title}
    ).execute(db)


def _remove(db: peewee.Database, model: str) -> bool:
    return bool(UsageModel.delete().where(UsageModel.id == model).execute(db))
