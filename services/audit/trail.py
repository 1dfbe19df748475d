"""Writes and reads the audit trail.

`record` never waits. Entries are collected in a bounded buffer and written in the background.
Events that unauthenticated clients can cause may use only a part of the buffer.
"""

from __future__ import annotations

import contextvars
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import peewee

from models.audit_event import AuditEvent
from services.audit.events import Caller, Event, as_json, as_text
from services.metrics import Metrics
from services.storage.database import Database

LINES_SECONDS = 0.25
ROWS_SECONDS = 1.0
MAX_LINES = 10_000
MAX_REFUSALS = 200
"""Refusals in one round of each of the two: those beyond are only counted."""
MAX_ROWS = 20_000
BATCH = 500
MAX_PAGE = 200
MAX_TEXT = 200
NOBODY = Caller()
REFUSED = ".refused"
"""Suffixes of event kinds that unauthenticated clients can cause."""


class AuditRow(msgspec.Struct, frozen=True):
    """An entry, as shown to administrators. `at`: epoch seconds. Empty members do not apply."""

    id: int
    at: float
    kind: str
    actor: str
    subject: str
    session: str
    address: str
    reason: str
    target: str
    count: int


class AuditTrail:
    """The audit trail of one node.

    Args:
        write_lines: writes log lines, each with its line end. It must not block.
        log_format: "text" or "json".
    """

    def __init__(
        self,
        database: Database,
        write_lines: Callable[[str], None],
        log_format: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._write_lines, self._metrics = database, write_lines, metrics
        self._as_line = as_json if log_format == "json" else as_text
        self._clock = clock
        self._lines: list[Event] = []
        self._rows: list[Event] = []
        self._refused = [0, 0]
        self._uncounted = 0
        self._caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller")

    # ---- writing ---------------------------------------------------------------------------

    def acting(self, caller: Caller) -> None:
        """Set the caller of this task and of the tasks that it starts."""
        self._caller.set(caller)

    def record(
        self,
        kind: str,
        *,
        subject: str = "",
        session: str = "",
        reason: str = "",
        target: str = "",
        actor: str = "",
        by: Caller | None = None,
        kept: bool = True,
    ) -> None:
        """Record an event. Never waits, and never fails.

        Args:
            session: the login session, if it is not the caller's own.
            actor: the actor, if `acting` did not set one.
            by: the caller, instead of the one set by `acting`.
            kept: whether to write a database row in addition to the log line.
        """
        by = by or self._caller.get(NOBODY)
        self._add(
            Event(
                self._clock(),
                kind,
                by.actor or actor,
                subject,
                session or by.session,
                by.address,
                reason[:MAX_TEXT],
                target[:MAX_TEXT],
            ),
            kept,
        )

    def record_line(
        self, kind: str, user_id: str, session: str, address: str, reason: str, target: str
    ) -> None:
        """Record an event of a user about the same user as a log line, without a row: each socket
        has two of these. It must not be a refusal."""
        event = Event(self._clock(), kind, user_id, user_id, session, address, reason, target)
        if len(self._lines) < MAX_LINES:
            self._lines.append(event)
        else:
            self._add(event, kept=False)

    def _add(self, event: Event, kept: bool) -> None:
        refusal = event.kind.endswith(REFUSED)
        if self._has_place(self._lines, MAX_LINES, 0, refusal):
            self._lines.append(event)
        else:
            self._uncounted += 1
        if kept and self._has_place(self._rows, MAX_ROWS, 1, refusal):
            self._rows.append(event)

    def _has_place(self, events: list[Event], most: int, place: int, refusal: bool) -> bool:
        if refusal:
            self._refused[place] += 1
        if len(events) < most and not (refusal and self._refused[place] > MAX_REFUSALS):
            return True
        self._metrics.audit_dropped.labels(what="row" if place else "line").inc()
        return False

    async def write_lines(self) -> None:
        """Write the buffered log lines."""
        lines, self._lines = self._lines, []
        uncounted, self._uncounted, self._refused[0] = self._uncounted, 0, 0
        if uncounted:
            lines.append(Event(self._clock(), "audit.dropped", reason="too_many", count=uncounted))
        if lines:
            self._write_lines("".join(f"{self._as_line(event)}\n" for event in lines))

    async def write_rows(self) -> None:
        """Write the buffered rows, combining equal ones.

        Raises:
            DatabaseUnavailable, Busy: the write failed; the rows stay in the buffer.
        """
        self._refused[1] = 0
        while batch := self._rows[:BATCH]:
            alike = Counter(msgspec.structs.replace(event, at=0.0) for event in batch)
            first = {msgspec.structs.replace(event, at=0.0): event.at for event in reversed(batch)}
            rows = [
                msgspec.structs.replace(event, at=first[event], count=count)
                for event, count in alike.items()
            ]
            await self._database.run(insert, rows)
            del self._rows[: len(batch)]

    async def write(self) -> None:
        """Write lines and rows, at the end of the process. Raises as `write_rows`."""
        await self.write_lines()
        await self.write_rows()

    # ---- reading ---------------------------------------------------------------------------

    async def page(
        self, before: int | None, limit: int, actor: str = "", subject: str = "", kind: str = ""
    ) -> list[AuditRow]:
        """Entries, newest first.

        Args:
            before: the id of the last entry of the previous page.
            actor, subject: only entries with these.
            kind: only entries of this kind, or with this prefix if it ends with a dot.
        """
        return await self._database.run(_page, before, limit, actor, subject, kind)


def insert(db: peewee.Database, events: Sequence[Event]) -> None:
    """Write entries within the caller's transaction."""
    rows = [msgspec.structs.asdict(event) for event in events]
    AuditEvent.insert_many(rows).execute(db)


def _page(
    db: peewee.Database, before: int | None, limit: int, actor: str, subject: str, kind: str
) -> list[AuditRow]:
    query = AuditEvent.select()
    if before is not None:
        query = query.where(AuditEvent.id < before)
    if actor:
        query = query.where(AuditEvent.actor == actor)
    if subject:
        query = query.where(AuditEvent.subject == subject)
    if kind.endswith("."):
        query = query.where(AuditEvent.kind.startswith(kind))
    elif kind:
        query = query.where(AuditEvent.kind == kind)
    found = query.order_by(AuditEvent.id.desc()).limit(limit).execute(db)
    names = AuditRow.__struct_fields__
    return [AuditRow(*(getattr(row, name) for name in names)) for row in found]
