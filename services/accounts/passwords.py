"""Passwords: hashing, verification, and refusal of common ones.

Argon2id at 19 MiB, 2 passes, 1 lane (OWASP Password Storage Cheat Sheet; ASVS 2.4.1), in a bounded
thread pool: `cryptography` releases the interpreter lock while it hashes.

Passwords are normalised with NFKC first (NIST SP 800-63B 5.1.1.2, RFC 8265 section 4.2), so that
the same password typed on another keyboard or system gives the same bytes. Every character is
allowed, including spaces and emoji, and nothing is truncated (ASVS 2.1.3, 2.1.4).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import sys
import threading
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TypeVar

from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

from services.errors import Busy, WeakPassword
from services.event_loop.callers import Callers
from services.event_loop.fair_queue import FairQueue, Lane

MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
SALT_BYTES, HASH_BYTES = 16, 32
PHC_PREFIX = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"

MIN_CHARACTERS = 8  # NIST SP 800-63B 5.1.1.1
MAX_CHARACTERS = 1024  # a limit against abuse only
MIN_SCORE = 2  # zxcvbn: 10^6 to 10^8 guesses; online guessing is rate-limited besides
SCORED_CHARACTERS = 72  # zxcvbn's own limit; its time grows with the square and more
UNAUTHENTICATED_NICE = 10
"""A tenth of the processor time of others, while these want it (setpriority(2))."""
MAX_HINTS, MAX_HINT_CHARACTERS = 32, 64
# zxcvbn looks up every reading of "leet" signs: 576 of them with all signs in one password,
# 3.4 s with the interpreter lock held (measured, 72 characters). 8 readings stay below 0.1 s.
MAX_READINGS = 8
SIGN_TO_LETTER = str.maketrans({s: letter for letter in L33T_TABLE for s in L33T_TABLE[letter]})
HINT_WORDS = re.compile(r"[^\W_]{3,}")

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    ok: the password is correct.
    needs_rehash: the password is correct, but its hash was made with outdated parameters.
    """

    ok: bool
    needs_rehash: bool = False


class Passwords:
    """Hashes and checks passwords in a pool of its own.

    The threads are shared fairly: known clients (a device or an address that has signed in
    before) have priority, unauthenticated callers are served in rotation by address, and no
    address can occupy all threads.

    Args:
        workers: threads; one busy thread takes one core and 19 MiB.
        max_waiting: calls that may wait for a thread before `Busy`: so many
            unauthenticated ones, and as many others.
        callers: the caller that each task works for.

    Attributes:
        calls: how many calls were given to the threads.
    """

    def __init__(
        self, workers: int = 2, max_waiting: int = 256, callers: Callers | None = None
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="passwords")
        # Threads for unauthenticated callers have a lower priority than the loop and the others.
        self._unauthenticated = ThreadPoolExecutor(
            workers, thread_name_prefix="unauthenticated", initializer=_lower_priority
        )
        self._callers = callers or Callers()
        most, waiting = max(1, workers - 1), workers + max_waiting
        known = Lane("users", 8, 0, workers, workers, waiting, waiting)
        unauthenticated = Lane(
            "unauthenticated", 1, 0, workers, most, waiting, max(1, waiting // 2)
        )
        self._queue = FairQueue(workers, (known, unauthenticated))
        self.calls = 0
        self._closed = False
        # First in the pool's queue, so that it is ready before the first call.
        self._dummy: Future[str] = self._pool.submit(_derive, secrets.token_urlsafe())
        # zxcvbn keeps the hints of a call in a module-level table.
        self._zxcvbn = threading.Lock()

    async def hash(self, password: str) -> str:
        """Hash a password, with a new salt. Returns a PHC string.

        Raises:
            WeakPassword: the password is longer than 1,024 characters.
            Busy: too many calls are waiting.
        """
        _refuse_too_long(password)
        return await self._run_in_pool(partial(_derive, password))

    async def verify(self, password: str, phc: str | None) -> Verdict:
        """Verify `password` against the PHC string `phc`.

        For None (no such account, or one without a password) the same work is done, so that the
        time does not reveal which addresses have an account (ASVS 2.2.x). A malformed PHC string
        is not ok, and is logged.

        Raises:
            Busy: too many calls are waiting.
        """
        return await self._run_in_pool(partial(self._verify, password, phc))

    async def check_strength(self, password: str, hints: Sequence[str]) -> None:
        """Refuse short and easily guessed passwords (ASVS 2.1.1, 2.1.7; NIST SP 800-63B 5.1.1.2).

        Args:
            password: as typed.
            hints: words that an attacker knows, such as address and name. They count as guessed.

        Raises:
            WeakPassword: with `suggestions` (list of sentences) and `warning` for the user.
            Busy: too many calls are waiting.
        """
        _refuse_too_long(password)
        if len(_normalised(password)) < MIN_CHARACTERS:
            raise _weak(f"Use at least {MIN_CHARACTERS} characters.")
        advice = await self._run_in_pool(partial(self._advice, password, hints))
        if advice is not None:
            raise advice

    def close(self) -> None:
        """Drop waiting calls and let the threads end. Does not block."""
        self._closed = True
        for pool in (self._pool, self._unauthenticated):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _run_in_pool(self, work: Callable[[], T]) -> T:
        caller = self._callers.current
        is_unauthenticated = caller.kind == "unauthenticated"
        slot = self._queue.request("unauthenticated" if is_unauthenticated else "users", caller.key)
        try:
            await slot.wait()
            future = self._submitted(
                self._unauthenticated if is_unauthenticated else self._pool, work
            )
        except BaseException:  # also if cancelled: nothing was started
            slot.release()
            raise
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            # When the thread is done, not when the caller leaves: the work continues.
            with suppress(RuntimeError):  # the loop is closed, and the queue with it
                loop.call_soon_threadsafe(slot.release)

        future.add_done_callback(release)
        return await asyncio.wrap_future(future)

    def _submitted(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise Busy("the password pool is closed")
        self.calls += 1
        return pool.submit(work)

    def _verify(self, password: str, phc: str | None) -> Verdict:
        known = phc is not None and len(password) <= MAX_CHARACTERS
        if not known:
            _matches(password[:MAX_CHARACTERS], self._dummy.result())
            return Verdict(False)
        assert phc is not None
        try:
            ok = _matches(password, phc)
        except _Unreadable as error:
            logger.error("a stored password hash cannot be read: %s", error)
            _matches(password, self._dummy.result())
            return Verdict(False)
        return Verdict(ok, ok and not phc.startswith(PHC_PREFIX))

    def _advice(self, password: str, hints: Sequence[str]) -> WeakPassword | None:
        text = _scorable(_normalised(password))
        words = _hint_words(hints)
        with self._zxcvbn:
            result = zxcvbn(text, user_inputs=words)
            # Call it again without hints: the table would keep the address until the next call.
            zxcvbn("x", user_inputs=[])
        if result["score"] >= MIN_SCORE:
            return None
        feedback = result["feedback"]
        return _weak(*map(str, feedback["suggestions"]), warning=str(feedback["warning"] or ""))


def _lower_priority() -> None:
    """Lower the priority of this thread. Only Linux has a priority for each thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), UNAUTHENTICATED_NICE)


class _Unreadable(Exception):
    """Not a PHC string of Argon2id."""


def _normalised(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _octets(password: str) -> bytes:
    # JSON can contain lone surrogates; they are accepted like any other character.
    return _normalised(password).encode("utf-8", "surrogatepass")


def _derive(password: str) -> str:
    kdf = Argon2id(
        salt=os.urandom(SALT_BYTES),
        length=HASH_BYTES,
        iterations=PASSES,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(_octets(password))


def _matches(password: str, phc: str) -> bool:
    if not re.match(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[^$]+\$[^$]+$", phc):
        raise _Unreadable("not an Argon2id string")
    try:
        Argon2id.verify_phc_encoded(_octets(password), phc)
    except InvalidKey as error:
        # The library raises one class for a wrong password and a malformed hash; the text differs.
        if "match" not in str(error):
            raise _Unreadable(str(error)) from error
        return False
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _Unreadable(type(error).__name__) from error
    return True


def _refuse_too_long(password: str) -> None:
    if len(password) > MAX_CHARACTERS:
        raise _weak(f"Use at most {MAX_CHARACTERS:,} characters.")


def _weak(*suggestions: str, warning: str = "") -> WeakPassword:
    return WeakPassword("weak password", suggestions=list(suggestions), warning=warning)


def _scorable(password: str) -> str:
    """The part of a password that zxcvbn can score in reasonable time."""
    text = password[:SCORED_CHARACTERS]
    signs = set(text)
    readings = prod(max(1, len(signs.intersection(L33T_TABLE[key]))) for key in L33T_TABLE)
    # Read as plain letters, the password scores the same or lower, never higher.
    return text.translate(SIGN_TO_LETTER) if readings > MAX_READINGS else text


def hints(address: str, name: str) -> tuple[str, ...]:
    """Words that an attacker would try first: the e-mail address, its parts, and the name."""
    return address, *re.split(r"[@.+_-]", address), name


def _hint_words(hints: Sequence[str]) -> list[str]:
    words = ["usher"]
    for hint in hints[:MAX_HINTS]:
        short = _normalised(hint[:MAX_HINT_CHARACTERS])
        words += [short, *HINT_WORDS.findall(short)]
    return words
