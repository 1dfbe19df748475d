"""Hourly limits that are exact under concurrency.

A hit is counted before the work, in one atomic step, and given back if the work turns out not to
count. So of any number of parallel requests, no more than the limit reach the work. A check costs
one Redis round trip; Redis counts for all nodes.

This is the one place that fails open, on purpose: while Redis is unavailable each node counts by
itself, because refusing everybody would be worse. Each such check is counted in
`usher_rate_limits_without_redis`.

A window begins with its first hit and ends an hour later by the clock of Redis. `Retry-After` is
the rest of the window.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from typing import Any, Protocol

import msgspec

from services.errors import RateLimited, StoreUnavailable
from services.limits.windows import Windows
from services.metrics import Metrics
from services.redis.store import Command, Store

WINDOW_SECONDS = 3600
EXPORTS = 20
INVITED = 20
OPENINGS = 60
KEY_PREFIX = "usher:limits"
MAX_REMEMBERED = 20_000
"""Full windows that a node remembers, so that further calls are refused without Redis."""

TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count < tonumber(ARGV[1]) then
  redis.call('INCR', KEYS[1])
  count = -1
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  left = tonumber(ARGV[2])
end
return {count < 0 and 1 or 0, left}
"""
GIVE_BACK = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count > 1 then return redis.call('DECR', KEYS[1]) end
return redis.call('DEL', KEYS[1])
"""

log = logging.getLogger("usher.limits")


class Limit(msgspec.Struct, frozen=True):
    """Attributes:
    name: a unique word.
    amount: how often in an hour; 0 for no limit.
    is_final: hits are never given back, so a full window stays full.
    """

    name: str
    amount: int
    is_final: bool = False


class Limits(msgspec.Struct, frozen=True):
    """The limits of an installation, by what is counted.

    Attributes:
        signups: by address.
        wrong_signins: by address.
        account_guesses: wrong passwords without a known device, by account; far above the limit
            of one address, so that it takes many addresses to reach it.
        own_guesses: attempts reserved for a device or address that has signed in to an account,
            even if others have used up the address's limit.
        session_guesses: wrong passwords of signed-in users, by login session.
        factor_guesses: wrong second factors, by login session, or by account without a known
            device. Fewer than passwords, because a code has only six digits.
        half_signins: sign-ins whose second factor is still missing, by user and address, so that
            the thief of a password cannot use up the owner's sign-ins.
        bad_codes: authorization codes that the provider does not know, by address.
        bad_tokens: invalid refresh tokens, tickets, codes and links, by address.
        bad_keys: invalid API keys, by address.
        refresh_reuse: uses of one refresh token, code or link: parallel tabs, and lost responses.
        signins, refreshes, tickets: by user.
        exports: exports of the user's data, by user.
        invited: members that are added to channels by their e-mail address, by user. Who adds them
            learns whether an address has an account.
        openings: channels opened to everybody or to roles, or whose step-up changes, by user. Each
            such change, and its end, is told to every socket that joins or leaves the room.
        mails, mailbox: by address asked from, and by mailbox.
    """

    signups: Limit
    wrong_signins: Limit
    account_guesses: Limit
    own_guesses: Limit
    session_guesses: Limit
    factor_guesses: Limit
    half_signins: Limit
    bad_codes: Limit
    bad_tokens: Limit
    bad_keys: Limit
    refresh_reuse: Limit
    signins: Limit
    refreshes: Limit
    tickets: Limit
    exports: Limit
    invited: Limit
    openings: Limit
    mails: Limit
    mailbox: Limit


class LimitSettings(Protocol):
    """The settings of the limits, each a number in an hour; 0 for no limit."""

    @property
    def limit_signups(self) -> int: ...
    @property
    def limit_wrong_signins(self) -> int: ...
    @property
    def limit_signins(self) -> int: ...
    @property
    def limit_refreshes(self) -> int: ...
    @property
    def limit_tickets(self) -> int: ...
    @property
    def limit_mails(self) -> int: ...


def limits_of(settings: LimitSettings) -> Limits:
    """Create the limits from the settings."""
    wrong_signins, mails = settings.limit_wrong_signins, settings.limit_mails

    def part(whole: int, of: int) -> int:
        return max(1, whole // of) if whole else 0

    return Limits(
        signups=Limit("signups", settings.limit_signups),
        wrong_signins=Limit("wrong-signins", wrong_signins),
        account_guesses=Limit("account-guesses", wrong_signins * 10),
        own_guesses=Limit("own-guesses", part(wrong_signins, 5)),
        session_guesses=Limit("session-guesses", wrong_signins),
        factor_guesses=Limit("factor-guesses", part(wrong_signins, 5)),
        half_signins=Limit("half-signins", settings.limit_signins),
        bad_codes=Limit("bad-codes", wrong_signins),
        bad_tokens=Limit("bad-tokens", wrong_signins),
        bad_keys=Limit("bad-keys", wrong_signins, is_final=True),
        refresh_reuse=Limit("refresh-reuse", part(settings.limit_refreshes, 8)),
        signins=Limit("signins", settings.limit_signins),
        refreshes=Limit("refreshes", settings.limit_refreshes),
        tickets=Limit("tickets", settings.limit_tickets, is_final=True),
        exports=Limit("exports", EXPORTS),
        invited=Limit("invited", INVITED, is_final=True),
        openings=Limit("openings", OPENINGS, is_final=True),
        mails=Limit("mails", mails, is_final=True),
        mailbox=Limit("mailbox", part(mails, 4), is_final=True),
    )


class Taken:
    """The result of taking from several limits.

    Attributes:
        waits: for each limit, None if a hit was taken, else the seconds until one may be free.
    """

    def __init__(
        self, waits: Sequence[float | None], give_back: Callable[[int], None], names: Sequence[str]
    ) -> None:
        self.waits = tuple(waits)
        self._names = tuple(names)
        self._give_back = give_back
        self._held = {number for number, wait in enumerate(waits) if wait is None}

    def give_back(self, *numbers: int) -> None:
        """Give hits back, to these limits or to all. Does not wait."""
        for number in self._held.intersection(numbers or self._held):
            self._held.discard(number)
            self._give_back(number)

    def keep(self) -> None:
        """Keep the hit, even if `give_back` is called afterwards."""
        self._held.clear()

    def require(self, *numbers: int) -> None:
        """Require that a hit was taken from each of these limits, or of all; else give all back.

        Raises:
            RateLimited: with the seconds until all of them have room.
        """
        asked = numbers or range(len(self.waits))
        full = {number: wait for number in asked if (wait := self.waits[number]) is not None}
        if full:
            self.give_back()
            names = ", ".join(self._names[number] for number in full)
            raise RateLimited(f"{names}: no more in this hour", retry_after=max(full.values()))


class _Asking:
    """The limits of one call of `take`.

    Attributes:
        numbers: the positions of the limits that have to be checked.
    """

    def __init__(self, keys: list[str], limits: list[Limit]) -> None:
        self.keys, self.limits = keys, limits
        self.waits: list[float | None] = [None] * len(keys)
        self.numbers: list[int] = []

    def one(self, number: int) -> tuple[str, int]:
        return self.keys[number], self.limits[number].amount

    def commands(self) -> list[Command]:
        asked = map(self.one, self.numbers)
        return [("EVAL", TAKE, 1, key, amount, WINDOW_SECONDS * 1000) for key, amount in asked]


class HourlyLimits:
    """Takes hits from limits, in Redis or in this process.

    Args:
        store: the store that the nodes share.
        limits: the limits of this installation.
        processes: server processes of this node. While Redis is unavailable each has its part of
            a limit, so that they take no more than one.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        processes: int = 1,
    ) -> None:
        self.of, self._processes = limits, processes
        self._store, self._metrics, self._clock = store, metrics, clock
        self._here = Windows(WINDOW_SECONDS, clock)
        self._full: OrderedDict[str, float] = OrderedDict()

    def refuse_known_full(self, limit: Limit, key: str) -> None:
        """Refuse if this node knows that the limit is used up. Does not access Redis.

        Raises:
            RateLimited: the limit is used up.
        """
        wait = self._known_full(_key(limit, key))
        if wait is not None:
            raise RateLimited(f"{limit.name}: no more in this hour", retry_after=wait)

    def take(self, *wanted: tuple[Limit, str]) -> Awaitable[Taken]:
        """Take one hit from each limit, for a key, which is hashed.

        Issued when called, not when awaited, so commands that are issued next are sent in the same
        write. `Taken.waits` has one entry for each limit, in this order.
        """
        asking = _Asking([_key(limit, key) for limit, key in wanted], [one for one, _ in wanted])
        for number, (limit, key) in enumerate(zip(asking.limits, asking.keys, strict=True)):
            asking.waits[number] = self._known_full(key)
            if limit.amount and asking.waits[number] is None:
                asking.numbers.append(number)
        replies: asyncio.Future[list[Any]] | None = None
        if asking.numbers and self._store.kind == "redis":
            # Each command has one key: in a cluster they go to several nodes, in one round trip.
            replies = asyncio.ensure_future(self._store.call(*asking.commands()))
        return self._finish(asking, replies)

    async def _finish(self, asking: _Asking, replies: asyncio.Future[list[Any]] | None) -> Taken:
        answers = await _answers(replies) if replies is not None else None
        shared = answers is not None
        if answers is None:
            answers = [self._take_locally(*asking.one(number)) for number in asking.numbers]
        for number, (taken, left) in zip(asking.numbers, answers, strict=True):
            if not taken:
                asking.waits[number] = wait = max(0.001, left / 1000)
                if asking.limits[number].is_final:
                    self._remember_full(asking.keys[number], wait)

        def give_back(number: int) -> None:
            if number in asking.numbers:
                self._give_back(asking.keys[number], shared)

        return Taken(asking.waits, give_back, [limit.name for limit in asking.limits])

    def _take_locally(self, key: str, amount: int) -> tuple[int, float]:
        if self._store.kind == "redis":
            self._metrics.rate_limits_without_redis.inc()
        taken, left = self._here.take(key, ceil(amount / self._processes))
        return int(taken), left * 1000

    def _give_back(self, key: str, shared: bool) -> None:
        if shared:
            # Not awaited: a failure leaves one hit counted, and is not logged (see Store.call).
            self._store.tell(("EVAL", GIVE_BACK, 1, key))
        else:
            self._here.give_back(key)

    def _known_full(self, key: str) -> float | None:
        until = self._full.get(key)
        if until is None:
            return None
        left = until - self._clock()
        if left > 0:
            return left
        del self._full[key]
        return None

    def _remember_full(self, key: str, seconds: float) -> None:
        self._full[key] = self._clock() + seconds
        if len(self._full) > MAX_REMEMBERED:
            self._full.popitem(last=False)


async def _answers(replies: asyncio.Future[list[Any]]) -> list[Any] | None:
    """The replies of Redis; None if it is unavailable."""
    try:
        return await replies
    except StoreUnavailable as error:
        log.debug("limits: %s", error.evidence)
        return None


def _key(limit: Limit, key: str) -> str:
    # Hashed, so that Redis holds no e-mail addresses. The braces are the hash tag of a cluster.
    hashed = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{KEY_PREFIX}:{limit.name}:{{{hashed}}}"
