"""Sends the mails in the outbox one after the other, and pauses while the mail server fails."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Literal

import peewee

from services.errors import UsherError
from services.event_loop.stale_claims import StaleClaims
from services.event_loop.tasks import end_tasks
from services.mail import rows
from services.mail.kinds import KINDS
from services.mail.outbox import MailOutbox
from services.mail.rows import ClaimedMail
from services.mail.transports import MailRefused, OutcomeUnknown, ServerFailed, Transport
from services.mail_outbox import AskedKind, Decide, Decided, Letter
from services.metrics import Metrics
from services.storage.database import Database
from services.storage.encryption import DecryptionFailed

POLL_SECONDS = 1.0
EAGER_SECONDS = (0.02, 0.2)
"""Delays after a signal that a mail was written, which comes shortly before its commit."""
WATCH_SECONDS = 5.0
CLAIM_SECONDS = 90.0
"""Longer than an attempt, including the transactions before and after it."""
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 60.0
STOP_SECONDS = 2.0

log = logging.getLogger("usher.mail")


class MailDispatcher:
    """Sends the mails in the outbox.

    Args:
        clock: epoch seconds that never go back within the process.
        monotonic: a monotonic clock, in seconds.
        claim_seconds: see CLAIM_SECONDS.
        may: counts a mail for its mailbox, and returns whether it may be sent.
    """

    def __init__(
        self,
        database: Database,
        outbox: MailOutbox,
        transport: Transport,
        metrics: Metrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        claim_seconds: float = CLAIM_SECONDS,
        may: Callable[[Letter], Awaitable[bool]] | None = None,
    ) -> None:
        self._database, self._outbox, self._transport = database, outbox, transport
        self._metrics, self._clock, self._monotonic = metrics, clock, monotonic
        self._may = may
        self._claims = StaleClaims(claim_seconds, monotonic)
        self._token, self._attempts = secrets.token_urlsafe(9), 0
        self._news = asyncio.Event()
        self._eager = list[float]()
        self._watch_at = self._rest_until = 0.0
        self._failures = 0
        self._is_unreadable = False
        self._decide: Mapping[AskedKind, Decide] = {}
        self._task: asyncio.Task[bool] | None = None
        metrics.mail_up.set(1)

    def on_asked(self, decide: Mapping[AskedKind, Decide]) -> None:
        """Set the function that decides each kind of request."""
        self._decide = decide

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to use the mail server failed."""
        return self._failures > 0

    def state(self) -> Literal["ok", "failing", "files"]:
        """The state of mail in /readyz."""
        return "failing" if self._failures else self._transport.state

    def wake(self) -> None:
        """Signal that a mail is due, or will be soon."""
        self._eager = list(EAGER_SECONDS)
        self._news.set()

    # ---- the loop --------------------------------------------------------------------------

    async def step(self) -> None:
        """Wait briefly for a signal, then send what is due.

        Raises:
            DatabaseUnavailable, Busy: retry later.
        """
        wait = self._eager.pop(0) if self._eager else POLL_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), wait)
        self._news.clear()
        # Runs in the lane of users as a single caller, so that mails delay no user.
        with self._database.callers.on_behalf_of("users", "mail"):
            await self._work()

    async def _work(self) -> None:
        now = self._monotonic()
        if now >= self._watch_at:
            self._watch_at = now + WATCH_SECONDS
            await self._watch()
        if now < self._rest_until:
            return
        if not await self._database.read(rows.is_any_due, self._clock()):
            return
        try:
            # A stop ends this loop at once, and waits a little for the attempt in `close`.
            while await self._shielded():
                pass
        finally:
            await self._transport.close()

    async def _shielded(self) -> bool:
        self._task = asyncio.ensure_future(self._send_next())
        return await asyncio.shield(self._task)

    async def _send_next(self) -> bool:
        """Send the next mail. Returns False if none is due, or the mail server fails."""
        self._attempts += 1
        token = f"{self._token}.{self._attempts}"
        one = await self._database.run(rows.claim, self._clock(), token)
        if one is None:
            return False
        try:
            decided = await self._decided(one)
        except DecryptionFailed:
            await self._put_off_unreadable(one)
            return True
        if decided is None:
            return True
        return await self._attempt(decided)

    async def _put_off_unreadable(self, one: ClaimedMail) -> None:
        if not self._is_unreadable:
            log.error("mails are waiting: no encryption key fits them")
        self._is_unreadable = True
        await self._database.run(rows.put_off, one, self._clock())

    # ---- requests --------------------------------------------------------------------------

    async def _decided(self, one: ClaimedMail) -> ClaimedMail | None:
        """The mail of a row. A request is decided first, and may result in no mail.

        Raises:
            DecryptionFailed: no encryption key can decrypt it.
        """
        asked = self._outbox.open(one.sealed)
        decide = {str(kind): act for kind, act in self._decide.items()}.get(one.kind)
        if decide is None:
            return one
        work = partial(self._become, one=one, decide=decide, to=asked.to, values=asked.values)
        found = await self._database.run(work)
        if found is None:  # another node has taken it over
            return None
        decided, mail = found
        if decided.after is not None:
            decided.after()
        if mail is None:
            self._metrics.mails.labels(outcome="not_needed").inc()
        return mail

    def _become(
        self,
        db: peewee.Database,
        one: ClaimedMail,
        decide: Decide,
        to: str,
        values: dict[str, str],
    ) -> tuple[Decided, ClaimedMail | None] | None:
        if not rows.holds(db, one):
            return None
        decided = decide(db, to, values)
        letter = decided.letter
        if letter is None:
            rows.done(db, one)
            return decided, None
        self._outbox.check(letter.kind, letter.values)
        sealed = self._outbox.seal(letter.to, letter.values)
        seconds = KINDS[letter.kind].seconds
        return decided, rows.become(db, one, letter.kind, sealed, self._clock() + seconds)

    # ---- attempts --------------------------------------------------------------------------

    async def _attempt(self, one: ClaimedMail) -> bool:
        letter = self._outbox.letter(one)

        async def hand() -> bool:
            # Here and not before, so that a mail with several attempts counts once.
            if self._may is not None and not await self._may(letter):
                self._count("limited")
                return False
            return await self._database.run(rows.hand, one, self._clock())

        try:
            sent = await self._transport.send(letter, hand)
        except ServerFailed as error:
            await self._rest(one, error)
            return False
        except MailRefused as error:
            await self._refused(one, error)
            return True
        except OutcomeUnknown as error:
            self._count("unknown")
            log.warning("mail=%s %s: %s; it is not sent again", one.id, one.kind, error.evidence)
        else:
            self._healthy()
            self._count("sent" if sent else "not_sent")
        await self._database.run(rows.done, one)
        return True

    async def _rest(self, one: ClaimedMail, error: UsherError) -> None:
        """Pause after a failure of the mail server."""
        if not self._failures:
            log.warning("mails are waiting: %s; retried with pauses", error.evidence)
            self._metrics.mail_up.set(0)
        rest = min(FIRST_REST_SECONDS * 2**self._failures, LONGEST_REST_SECONDS)
        self._failures = min(self._failures + 1, 10)
        self._rest_until = self._monotonic() + rest * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        self._count("retried")
        await self._database.run(rows.release, one)

    async def _refused(self, one: ClaimedMail, error: MailRefused) -> None:
        self._healthy()  # the server answers
        self._count("refused" if error.for_good else "retried")
        log.info("mail=%s %s: %s", one.id, one.kind, error.evidence)
        if error.for_good:
            await self._database.run(rows.done, one)
        else:
            await self._database.run(rows.put_off, one, self._clock())

    def _healthy(self) -> None:
        if self._failures:
            log.info("mails are sent again")
        self._failures = 0
        self._metrics.mail_up.set(1)

    def _count(self, outcome: str) -> None:
        self._metrics.mails.labels(outcome=outcome).inc()

    # ---- watching --------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Drop expired mails, and take over those of dead nodes."""
        waiting = await self._database.read(rows.count)
        self._metrics.mails_waiting.set(waiting)
        if not waiting:  # no write lock for nothing
            return
        expired = await self._database.run(rows.delete_expired, self._clock())
        if expired:
            self._metrics.mails.labels(outcome="expired").inc(expired)
            log.warning("mails that could not be sent in time are dropped: %d", expired)
        stale = self._claims.find(await self._database.read(rows.claims), frozenset())
        if stale:
            released, dropped = await self._database.run(rows.take_over, stale)
            log.warning(
                "mails of a dead node: %d are sent now, %d are dropped as they may have been sent",
                released,
                dropped,
            )

    async def close(self) -> None:
        """Wait briefly for the attempt in progress. One that does not end keeps its claim."""
        if self._task is not None and not self._task.done():
            await asyncio.wait((self._task,), timeout=STOP_SECONDS)
        await end_tasks(self._task)
        await self._transport.close()
