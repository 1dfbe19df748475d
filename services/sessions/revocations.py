"""Revocations: recorded in the database first, then applied.

A revocation is a row, written in the transaction that ends a session or token. Then this node
records it in memory and closes the sockets in one iteration of the loop, writes it to Redis, and
notifies the other nodes (control.py). This order is the guarantee: if Redis is lost, messages are
lost or the process restarts, the row remains, and every node reads the rows (`sweep`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence

import peewee

from services.errors import StoreUnavailable
from services.metrics import Metrics
from services.sessions import revocation_rows
from services.sessions.control import Control, Kind, Revocation
from services.sessions.login_cache import SLACK_SECONDS, LoginCache
from services.sessions.revocation_rows import SWEEP_LIMIT
from services.sessions.tokens import Claims
from services.sockets.hub import Hub
from services.storage.database import Database
from services.websocket.protocol import CloseCode

SWEEP_SECONDS = 1.0
"""How often the rows are read, and so the longest delay if messages between nodes are lost."""
REREAD_SECONDS = 10.0
"""How long rows are read again, to find those of transactions that commit after rows with higher
ids."""


ANYBODY = "*"
"""In place of a user id: a change of rights that may affect every user."""
_NEVER = (0.0, 0.0)


class Revocations:
    """Records and applies revocations, and remembers those of all nodes.

    Args:
        token_life: the longest lifetime of a token or ticket, seconds. A revocation is remembered a
            little longer; after that, it can no longer apply.
    """

    def __init__(
        self,
        database: Database,
        cache: LoginCache,
        hub: Hub,
        control: Control,
        metrics: Metrics,
        token_life: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._cache, self._hub = database, cache, hub
        self._control, self._metrics, self._clock = control, metrics, clock
        self._life = token_life + SLACK_SECONDS
        self._over: dict[str, float] = {}
        self._ended_generations: dict[str, Revocation] = {}
        """By user: the newest revocation that ended all login sessions of an older generation."""
        self._bindings: dict[str, Revocation] = {}
        """By token: the newest row that binds it to a socket."""
        self._roles: dict[str, tuple[float, str]] = {}
        self._changed: dict[str, tuple[float, float]] = {}
        self._on_access: Callable[[Revocation], Coroutine[None, None, None]] | None = None
        self._applying: set[asyncio.Task[None]] = set()
        self._seen: dict[int, tuple[float, int]] = {}
        """By number of the row: when it was received, and how many sockets it closed."""
        self._watermark = 0
        self._on_made: Callable[[Sequence[Revocation]], None] = lambda _: None
        self._on_recorded: Callable[[peewee.Database, Sequence[Revocation]], None] = lambda *_: None
        control.on_revocations(self.apply)

    # ---- asked on every join ---------------------------------------------------------------

    def names(self, claims: Claims) -> bool:
        """Whether this node knows that the token or its login session is revoked. Does not wait."""
        return claims.sid in self._over or claims.jti in self._over

    def ends(self, claims: Claims, generation: int) -> bool:
        """Like `names`, including revocations of all login sessions of the user at once.

        Args:
            generation: generation of the login session, as read from the database at any time.
        """
        ended = self._ended_generations.get(claims.sub)
        over = ended is not None and generation < ended.generation and claims.sid != ended.exempt
        return over or self.names(claims)

    def is_over(self, subject: str) -> bool:
        """Whether this node knows that a login session, access token or API key has ended, by its
        id."""
        return subject in self._over

    def is_of_older_generation(self, user_id: str, generation: int) -> bool:
        """Whether this node knows that all login sessions of a user were ended since."""
        ended = self._ended_generations.get(user_id)
        return ended is not None and generation < ended.generation

    def is_bound_by_row(self, token_id: str) -> bool:
        """Whether a bearer token is bound to a socket by a row, because Redis was unavailable."""
        return token_id in self._bindings

    def changed_at(self, user_id: str) -> float:
        """When a user's role or rights last changed, epoch seconds; 0 if not lately. A state read
        before that time is out of date."""
        return self._changed.get(user_id, _NEVER)[0]

    def changed_since(self, user_id: str, as_of: float) -> bool:
        """Whether this node was notified of such a change at or after `as_of`."""
        return self._changed.get(user_id, _NEVER)[1] >= as_of

    def on_access(self, act: Callable[[Revocation], Coroutine[None, None, None]]) -> None:
        """Call `act` with every change of rights in a channel."""
        self._on_access = act

    def on_made(self, act: Callable[[Sequence[Revocation]], None]) -> None:
        """Call `act` with revocations made by this node, once they are committed."""
        self._on_made = act

    def on_recorded(self, act: Callable[[peewee.Database, Sequence[Revocation]], None]) -> None:
        """Call `act` with revocations within the transaction that makes them."""
        self._on_recorded = act

    # ---- making them -----------------------------------------------------------------------

    def record(
        self,
        db: peewee.Database,
        kind: Kind,
        subject: str,
        user_id: str,
        reason: str,
        role: str = "",
        *,
        generation: int = 0,
        exempt: str = "",
    ) -> Revocation:
        """Write the row. Call this within the transaction that ends the session or token."""
        made = revocation_rows.insert(
            db,
            Revocation(kind, subject, user_id, reason, self._clock(), 0, role, generation, exempt),
            self._life,
        )
        self._on_recorded(db, [made])
        return made

    def record_sessions(
        self, db: peewee.Database, ended: Sequence[tuple[str, str]], reason: str
    ) -> list[Revocation]:
        """Write the rows of several login sessions in a constant number of statements.

        Args:
            ended: their ids, each with its user's.
        """
        written = revocation_rows.insert_sessions(db, ended, reason, self._clock(), self._life)
        self._on_recorded(db, written)
        return written

    async def publish(self, revocations: Sequence[Revocation], request: str = "") -> int:
        """Apply committed revocations: here at once, then on all nodes.

        When this returns, no frame goes in or out of the sockets concerned on this node.
        Without Redis, the other nodes read the rows.

        Args:
            request: id of a request for acknowledgements, see `Control.request`.

        Returns:
            How many sockets were closed here.
        """
        closed = self.apply(revocations)
        self._on_made(revocations)
        await self.applied()
        over = [(e.user_id, e.subject) for e in revocations if e.kind in ("session", "token")]
        generations = [(e.user_id, e.generation) for e in revocations if e.kind == "user"]
        try:
            await self._cache.revoke(over)
            await self._cache.mark_older_generations(generations)
            await self._cache.note_roles(e.user_id for e in revocations if e.kind == "role")
        except StoreUnavailable:
            self._metrics.revocations_without_redis.inc()
        if revocations:
            await self._control.publish(revocations, request)
        return closed

    async def applied(self) -> None:
        """Wait until recorded changes of rights are applied to this node's sockets."""
        if self._applying:
            await asyncio.wait(tuple(self._applying))

    def apply(self, revocations: Sequence[Revocation]) -> int:
        """Record revocations and close the sockets they concern. Does not wait.

        Returns:
            How many sockets they have closed here: now, or before if the row was read before
            the message arrived, or the message arrived twice.
        """
        total = 0
        for entry in revocations:
            if entry.id not in self._seen:
                self._remember(entry)
                self._seen[entry.id] = self._clock(), self._close_and_count(entry)
            total += self._seen[entry.id][1]
        return total

    def _close_and_count(self, entry: Revocation) -> int:
        closed = self._close(entry)
        self._metrics.sockets_revoked.labels(reason=entry.reason).inc(closed)
        if closed:
            self._metrics.observe_cut(max(0.0, self._clock() - entry.created_at))
        return closed

    def _remember(self, entry: Revocation) -> None:
        # What concerns anybody is looked up once, by this node (shared_grants.py).
        if entry.kind in ("role", "access") and entry.user_id != ANYBODY:
            at, _ = self._changed.get(entry.user_id, _NEVER)
            self._changed[entry.user_id] = max(at, entry.created_at), self._clock()
        if entry.kind == "role":
            changed_at, _ = self._roles.get(entry.user_id, (0.0, ""))
            if entry.created_at >= changed_at:
                self._roles[entry.user_id] = entry.created_at, entry.role
        elif entry.kind in ("user", "bearer"):
            # Messages and rows arrive in any order: the newest counts.
            newest = self._ended_generations if entry.kind == "user" else self._bindings
            known = newest.setdefault(entry.subject, entry)
            if (known.generation, known.id) < (entry.generation, entry.id):
                newest[entry.subject] = entry
        elif entry.kind != "access":
            self._over[entry.subject] = entry.created_at + self._life

    def _close(self, entry: Revocation) -> int:
        if entry.kind == "session":
            code = CloseCode.SESSION_REVOKED
            return self._hub.close_login_session(entry.user_id, entry.subject, code)
        if entry.kind == "user":
            code, before = CloseCode.SESSION_REVOKED, entry.generation
            return self._hub.close_older_logins(entry.user_id, before, entry.exempt, code)
        if entry.kind == "bearer":
            # The newest applies, as an older one may be read after it.
            holder = self._bindings[entry.subject].exempt
            return self._hub.close_bearer(entry.subject, holder, CloseCode.REPLACED)
        if entry.kind == "role":
            # The session continues; a refresh issues a token with the new role. The newest change
            # applies, as an older one may be read after it.
            _, role = self._roles[entry.user_id]
            return self._hub.close_other_roles(entry.user_id, role, CloseCode.TOKEN_EXPIRED)
        if entry.kind == "access" and self._on_access is not None:
            task = asyncio.get_running_loop().create_task(self._on_access(entry))
            self._applying.add(task)
            task.add_done_callback(self._applying.discard)
        return 0

    # ---- reading rows ----------------------------------------------------------------------

    async def sweep(self) -> None:
        """Read the rows of all nodes. The fallback for lost messages, and the first step at start.

        Raises:
            DatabaseUnavailable: the rows can't be read now.
        """
        cursor, page = self._watermark, None
        while page is None or len(page) == SWEEP_LIMIT:
            page = await self._database.read(revocation_rows.newer, cursor, self._clock())
            self.apply(page)
            cursor = page[-1].id if page else cursor
        self._advance_watermark(self._clock())

    def prune(self) -> None:
        """Forget revocations that can no longer apply. Call this now and then."""
        now = self._clock()
        self._over = {subject: end for subject, end in self._over.items() if end > now}
        cutoff = now - self._life
        self._ended_generations = {
            user: row for user, row in self._ended_generations.items() if row.created_at > cutoff
        }
        self._bindings = {t: row for t, row in self._bindings.items() if row.created_at > cutoff}
        self._roles = {user: at for user, at in self._roles.items() if at[0] > cutoff}
        self._changed = {user: at for user, at in self._changed.items() if at[1] > cutoff}

    def _advance_watermark(self, now: float) -> None:
        """Advance the watermark to the newest row below which no late transaction can commit."""
        settled = [i for i, (at, _) in self._seen.items() if at < now - REREAD_SECONDS]
        if settled:
            self._watermark = max(self._watermark, *settled)
            self._seen = {i: seen for i, seen in self._seen.items() if i > self._watermark}
