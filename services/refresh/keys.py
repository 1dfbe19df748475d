"""Records the secrets that refresh tokens were made with, including retired ones.

A refresh token outlives a rotation of JWT_SECRETS: its checksum can no longer be verified, but the
token is still valid. Each secret in use is recorded by its key id. A token with the id of a retired
secret is looked up for as long as such a token may live. Tokens from versions before the checksum
have an id of their own, which the migration records if there are sessions.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import peewee

from models.refresh_key import RefreshKey
from services.keyed_tokens import KeyedTokens
from services.storage.database import Database

WITHOUT_CHECKSUM = "none"
"""The key id of tokens without a checksum, from earlier versions."""
DAY_SECONDS = 86_400.0


class RefreshKeys:
    """The key ids of retired secrets, as last read.

    Args:
        ttl: seconds that a refresh token lives.
    """

    def __init__(
        self,
        database: Database,
        tokens: KeyedTokens,
        ttl: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._tokens, self._clock = database, tokens, clock
        self._ttl = ttl
        self._retired: frozenset[str] = frozenset()

    def is_retired(self, key_id: str) -> bool:
        """Whether tokens with this key id may be valid although their checksum cannot be
        verified."""
        return key_id in self._retired and key_id not in self._tokens.keyring.keys

    async def read(self) -> None:
        """Record the secret in use, and read the others.

        Raises:
            DatabaseUnavailable: retry later.
        """
        self._retired = await self._database.run(self._read)

    def _read(self, db: peewee.Database) -> frozenset[str]:
        now = self._clock()
        noted = {row.key_id: row.last_used_at for row in RefreshKey.select().execute(db)}
        signing_id = self._tokens.keyring.signing_id
        if now - noted.get(signing_id, 0.0) > DAY_SECONDS:
            row = {"key_id": signing_id, "last_used_at": now}
            RefreshKey.insert(row).on_conflict(
                conflict_target=[RefreshKey.key_id], preserve=[RefreshKey.last_used_at]
            ).execute(db)
        return frozenset(id_ for id_, at in noted.items() if now - at <= self._ttl + DAY_SECONDS)
