"""audit/trail.py: entries never wait, are bounded, and are written as lines and rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from models.audit_event import AuditEvent
from services.audit.events import Caller, Event, as_json, as_text
from services.audit.trail import MAX_LINES, MAX_REFUSALS, MAX_ROWS, AuditTrail
from services.composition.upkeep import Upkeep
from services.errors import DatabaseUnavailable
from services.metrics import Metrics
from services.storage.database import Database
from tests.support.databases import opened

CALLER = Caller("u1", "s1", "192.0.2.1")


class Trail(AuditTrail):
    def __init__(self, database: Database, log_format: str = "text") -> None:
        self.written: list[str] = []
        super().__init__(database, self.written.append, log_format, Metrics(), clock=lambda: 1000.0)

    async def lines(self) -> list[str]:
        await self.write_lines()
        return "".join(self.written).splitlines()


@asynccontextmanager
async def trail(database_url: str, log_format: str = "text") -> AsyncIterator[Trail]:
    async with opened(database_url) as database:
        yield Trail(database, log_format)


@pytest.mark.gen_test
async def test_an_entry_is_a_line_and_a_row(database_url: str) -> None:
    async with trail(database_url) as audit:
        audit.acting(CALLER)
        audit.record("member.set", subject="u2", reason="write", target="c1")
        (line,) = await audit.lines()
        assert line.endswith(
            "INFO usher.audit: member.set actor=u1 subject=u2 session=s1 address=192.0.2.1 "
            "reason=write target=c1"
        )
        await audit.write_rows()
        (row,) = await audit.page(None, 10)
        assert (row.at, row.kind, row.actor, row.subject) == (1000.0, "member.set", "u1", "u2")
        assert (row.session, row.address, row.reason) == ("s1", "192.0.2.1", "write")
        assert (row.target, row.count) == ("c1", 1)


@pytest.mark.gen_test
async def test_what_does_not_matter_is_a_line_only(database_url: str) -> None:
    async with trail(database_url) as audit:
        audit.record("socket.joined", by=CALLER, kept=False)
        assert len(await audit.lines()) == 1
        await audit.write_rows()
        assert await audit.page(None, 10) == []


@pytest.mark.gen_test
async def test_a_caller_is_this_tasks_and_those_it_begins(database_url: str) -> None:
    async with trail(database_url) as audit:

        async def act(name: str) -> None:
            audit.acting(Caller(name))
            await asyncio.sleep(0)
            await asyncio.ensure_future(note(name))

        async def note(name: str) -> None:
            audit.record("x", subject=name)

        await asyncio.gather(*(act(f"u{n}") for n in range(5)))
        audit.record("x", actor="fallback")
        await audit.write_rows()
        rows = await audit.page(None, 10)
        assert {(r.actor, r.subject) for r in rows if r.subject} == {
            (f"u{n}", f"u{n}") for n in range(5)
        }
        assert rows[0].actor == "fallback"


def test_lines_have_stable_names() -> None:
    event = Event(1000.5, "session.opened", "u1", "u1", "s1", "::1", "password")
    line = json.loads(as_json(event))
    assert line == {
        "time": "1970-01-01T00:16:40.500Z",
        "level": "info",
        "logger": "usher.audit",
        "kind": "session.opened",
        "actor": "u1",
        "subject": "u1",
        "session": "s1",
        "address": "::1",
        "reason": "password",
    }
    forged = Event(1.0, "x", reason="a b\nc=d")
    assert as_text(forged).endswith("x reason='a b\\nc=d'")
    assert "\n" not in as_text(forged) + as_json(forged)


@pytest.mark.gen_test
async def test_unauthenticated_clients_have_a_share_and_are_counted(database_url: str) -> None:
    async with trail(database_url) as audit:
        for number in range(5000):
            audit.record("session.refused", by=Caller(address=f"192.0.2.{number % 250}"))
        audit.record("user.deleted", subject="u2", by=CALLER)
        lines = await audit.lines()
        assert len(lines) == MAX_REFUSALS + 2
        assert lines[-1].endswith(f"audit.dropped reason=too_many count={5000 - MAX_REFUSALS}")
        await audit.write_rows()
        assert len(await audit.page(None, 1000)) == MAX_REFUSALS + 1
        # The next turn has room again.
        audit.record("session.refused", by=CALLER)
        await audit.write_rows()
        assert len(await audit.page(None, 1000)) == MAX_REFUSALS + 2


@pytest.mark.gen_test
async def test_those_alike_are_one_row_with_their_number(database_url: str) -> None:
    async with trail(database_url) as audit:
        for _ in range(30):
            audit.record("session.refused", by=CALLER, reason="unauthenticated")
        await audit.write_rows()
        (row,) = await audit.page(None, 10)
        assert row.count == 30


@pytest.mark.slow
@pytest.mark.gen_test
async def test_without_a_database_rows_wait_and_are_bounded(database_url: str) -> None:
    async with trail(database_url) as audit:
        async with opened(database_url) as gone:
            pass
        lost = Trail(gone)
        for number in range(MAX_ROWS + 10):
            lost.record("user.changed", subject=str(number), by=CALLER)
        with pytest.raises(DatabaseUnavailable):
            await lost.write_rows()
        lost._database = audit._database
        await lost.write_rows()
        rows = await audit.page(None, 1)
        assert rows[0].subject == str(MAX_ROWS - 1)
        assert len(await lost.lines()) == MAX_LINES + 1


@pytest.mark.gen_test
async def test_pages_are_newest_first_and_can_be_filtered(database_url: str) -> None:
    async with trail(database_url) as audit:
        for number in range(5):
            audit.record("user.changed", subject=f"u{number}", by=Caller("admin"))
            audit.record("user_changed", subject=f"u{number}", by=Caller(f"u{number}"))
        await audit.write_rows()
        first = await audit.page(None, 4, actor="admin")
        rest = await audit.page(first[-1].id, 4, actor="admin")
        assert [r.subject for r in (*first, *rest)] == ["u4", "u3", "u2", "u1", "u0"]
        assert [r.actor for r in await audit.page(None, 9, subject="u3")] == ["u3", "admin"]
        assert {r.kind for r in await audit.page(None, 9, kind="user.")} == {"user.changed"}
        assert len(await audit.page(None, 9, kind="user_changed")) == 5


@pytest.mark.gen_test
async def test_rows_go_when_their_time_has_ended(database_url: str) -> None:
    async with trail(database_url) as audit:
        audit.record("user.changed", by=CALLER)
        await audit.write_rows()
        database = audit._database
        await Upkeep(database, lambda: 1000.0 + 99, keep_audit=100).purge()
        assert len(await audit.page(None, 10)) == 1
        await Upkeep(database, lambda: 1000.0 + 101, keep_audit=100).purge()
        assert await audit.page(None, 10) == []


def test_an_entry_has_the_columns_of_its_row() -> None:
    fields = set(Event.__struct_fields__)
    assert set(AuditEvent._meta.sorted_field_names) == fields | {"id"}
