"""API keys for backends: created by an administrator, shown once, stored as a hash, with scopes.

A key is valid only while its creator is an enabled administrator. The database row is cached here
for a minute. During that time one round trip to Redis shows whether the key was revoked or its
creator changed. If messages or Redis' keys are lost, the revocation rows show the same.

A key ends with a keyed checksum, so that an invented one is refused without a look-up. Keys created
before the checksum existed, or with a secret that was replaced, are recognised by their hashes,
which are read at the start and every minute.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import peewee

from services.accounts import api_key_rows
from services.accounts.api_key_rows import NOBODY, USED_EVERY_SECONDS, KeyRow, Scope
from services.accounts.display_names import checked_text
from services.errors import (
    BadRequest,
    Forbidden,
    StoreUnavailable,
    Unauthenticated,
)
from services.keyed_tokens import CHECKSUM_LENGTH, Checksums
from services.opaque import opaque_token, token_hash
from services.secret import Secret
from services.sessions import session_rows
from services.sessions.control import Revocation
from services.sessions.login_cache import LoginCache
from services.sessions.revocations import Revocations
from services.storage.database import Database

PREFIX = "usher_key_"
"""So that secret scanners find a key that leaked into a repository."""
MAX_KEY_LENGTH = 128
MAX_NAME_LENGTH = 100
MAX_REMEMBERED = 10_000
REFUSED_SECONDS = 1.0
"""How long a key with a valid checksum that the database refused is refused without a query."""
READ_SECONDS = 60.0
"""How often the hashes of the keys are read."""


class GoodKey(msgspec.Struct, frozen=True):
    """A valid key. `maker`: the administrator who created it, None for the command line."""

    id: str
    scopes: frozenset[str]
    maker: str | None


class _Remembered(msgspec.Struct, frozen=True):
    """The cached row of a key.

    Attributes:
        generation: the generation of its creator's account.
        as_of: epoch seconds, for `Revocations.changed_since`.
        read_at: seconds of the monotonic clock.
    """

    key: GoodKey
    expires_at: float | None
    generation: int
    as_of: float
    read_at: float


class ApiKeys:
    """Creates, checks, lists and revokes keys.

    Args:
        wait_current: after a stall of the event loop, waits until missed messages are read.
        checksums: verify a key's checksum before a look-up.
        monotonic: a monotonic clock in seconds, for the age of cached rows.
    """

    def __init__(
        self,
        database: Database,
        cache: LoginCache,
        revocations: Revocations,
        wait_current: Callable[[], Awaitable[None]],
        checksums: Checksums,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._cache, self._revocations = database, cache, revocations
        self._wait_current, self._clock, self._monotonic = wait_current, clock, monotonic
        self._checksums = checksums
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._hashes: frozenset[str] = frozenset()

    async def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        created_by: str | None,
        expires_at: float | None = None,
        sid: str = "",
    ) -> tuple[KeyRow, Secret]:
        """Create a key. Its secret is returned only here.

        Args:
            created_by: the administrator; None on the command line.
            expires_at: epoch seconds.
            sid: the administrator's login session, which must still be active.

        Raises:
            BadRequest: there is no scope, the name is invalid, or `expires_at` is in the past.
            Unauthenticated: the creator's account is deleted, or the login session ended.
        """
        if not scopes:
            raise BadRequest("key without a scope", detail="scopes: at least one")
        shown = checked_text(name, "name", MAX_NAME_LENGTH)
        text, key_id, now = opaque_token(PREFIX).reveal(), secrets.token_urlsafe(16), self._clock()
        key = Secret(text + self._checksums.sign(text))
        if expires_at is not None and expires_at <= now:
            raise BadRequest("key that is over", detail="expires_at: epoch seconds, ahead of now")
        wanted = sorted(set(scopes))
        values: dict[str, object] = {
            "id": key_id,
            "hash": token_hash(key.reveal()),
            "name": shown,
            "scopes": " ".join(wanted),
            "created_by": created_by,
            "created_at": now,
            "expires_at": expires_at,
            "made_by_command": created_by is None,
        }

        def work(db: peewee.Database) -> None:
            if created_by is not None and sid:
                session_rows.acting_user(db, created_by, sid, now)
            api_key_rows.insert(db, values)

        try:
            await self._database.run(work)
        except peewee.IntegrityError as error:
            raise Unauthenticated("API key: its maker's account is gone") from error
        self._hashes |= {token_hash(key.reveal())}
        return KeyRow(key_id, shown, list(wanted), now, None, expires_at, created_by), key

    # ---- checking --------------------------------------------------------------------------

    async def check(self, key: str, *scopes: Scope) -> GoodKey:
        """Verify a key and its scope.

        Args:
            scopes: the key needs any one of them.

        Raises:
            Unauthenticated: the key is unknown, revoked or expired, or its creator is not an
                enabled administrator any more.
            Forbidden: the key is valid, but has none of the scopes.
        """
        if len(key) > MAX_KEY_LENGTH:
            raise Unauthenticated("API key: too long")
        hash_ = token_hash(key)
        found = await self._known(hash_)
        if found is None:
            self._refuse_unknown(key, hash_)
            found = await self._read(hash_)
        await self._wait_current()
        self._refuse_expired(found)
        if not found.key.scopes.intersection(scopes):
            raise Forbidden(f"API key {found.key.id}: without the scope {' or '.join(scopes)}")
        return found.key

    def remembers(self, key: str, scope: Scope) -> bool:
        """Whether the cache holds a valid key with this scope. Does not wait, and is no check."""
        found = self._remembered.get(token_hash(key)) if len(key) <= MAX_KEY_LENGTH else None
        return found is not None and scope in found.key.scopes

    async def _known(self, hash_: str) -> _Remembered | None:
        """The cached row, if one round trip to Redis confirms that it is current."""
        found = self._remembered.get(hash_)
        if found is None or not self._cache.is_shared:
            return None
        self._refuse_expired(found)
        maker = found.key.maker or NOBODY
        try:
            ((over, generation, role_changed),) = await self._cache.look_up_maker(
                maker, found.key.id
            )
        except StoreUnavailable:
            return None
        if over is not None:
            raise Unauthenticated("API key: revoked, says Redis")
        same = generation is None or generation == b"%d" % found.generation
        return found if same and role_changed is None and self._is_current(found) else None

    def _is_current(self, found: _Remembered) -> bool:
        """Whether this node knows of no change to the cached row."""
        if self._monotonic() - found.read_at >= USED_EVERY_SECONDS:
            return False
        maker = found.key.maker
        if maker is None:
            return True
        return not (
            self._revocations.changed_since(maker, found.as_of)
            or self._revocations.is_of_older_generation(maker, found.generation)
        )

    def _refuse_unknown(self, key: str, hash_: str) -> None:
        """Refuse keys that need no look-up: with a wrong checksum, or refused a moment ago."""
        if (
            hash_ not in self._remembered
            and hash_ not in self._hashes
            and not self._has_valid_checksum(key)
        ):
            raise Unauthenticated("API key: not one of ours, by its form")
        refused_at = self._refused.get(hash_)
        if refused_at is not None and self._monotonic() - refused_at < REFUSED_SECONDS:
            raise Unauthenticated("API key: refused a moment ago")

    def _has_valid_checksum(self, key: str) -> bool:
        text, checksum = key[:-CHECKSUM_LENGTH], key[-CHECKSUM_LENGTH:]
        return self._checksums.verify(text, checksum)

    def _refuse_expired(self, found: _Remembered) -> None:
        if self._revocations.is_over(found.key.id):
            raise Unauthenticated("API key: revoked")
        if found.expires_at is not None and found.expires_at <= self._clock():
            raise Unauthenticated("API key: expired")

    async def _read(self, hash_: str) -> _Remembered:
        self._remembered.pop(hash_, None)
        as_of, read_at = self._clock(), self._monotonic()
        row = await self._database.run(api_key_rows.use, hash_, as_of)
        if row is None:
            self._refused[hash_] = read_at
            self._refused.move_to_end(hash_)
            while len(self._refused) > MAX_REMEMBERED:
                self._refused.popitem(last=False)
            raise Unauthenticated("API key: unknown, revoked, or its maker is no administrator now")
        key, generation = row
        good = GoodKey(key.id, frozenset(key.scopes.split()), key.created_by)
        found = _Remembered(good, key.expires_at, generation, as_of, read_at)
        self._refused.pop(hash_, None)
        self._remembered[hash_] = found
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    # ---- keeping ---------------------------------------------------------------------------

    async def read(self) -> None:
        """Read the hashes of the keys that were not revoked.

        Raises:
            DatabaseUnavailable: the read failed; retry later.
        """
        self._hashes = await self._database.run(api_key_rows.hashes)

    async def active(self) -> list[KeyRow]:
        """The keys that are not revoked, newest first, including expired ones."""
        return await self._database.run(api_key_rows.active)

    async def revoke(self, key_id: str) -> None:
        """Revoke a key, at once and on every node.

        Raises:
            NotFound: there is no such key, or it is already revoked.
        """

        def work(db: peewee.Database) -> list[Revocation]:
            maker = api_key_rows.revoke(db, key_id, self._clock())
            return [self._revocations.record(db, "token", key_id, maker, "api_key_revoked")]

        await self._revocations.publish(await self._database.run(work))
