"""Challenges of passkeys: signed, short, and used once.

Anybody may ask for one, so none is stored before it is used: a challenge is 16 random bytes, the
second until which it is valid, and a checksum over both, its purpose and whom it is for. Its use is
a row, written in the transaction of what it proves. So it is used once on any number of nodes, also
while Redis is gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import peewee

from services.event_loop.steady_clock import SteadyClock
from services.keyed_tokens import CHECKSUM_LENGTH, Checksums
from services.storage.one_time import use_once

CHALLENGE_SECONDS = 300
CLOCK_SKEW_SECONDS = 60
"""How far the clocks of nodes may be apart. A challenge that is valid for longer than this beyond
its life was made before a clock was set back."""
KEEP_SECONDS = 86_400
"""How long a use is remembered beyond the end, whatever a clock does meanwhile."""
RANDOM_BYTES = 16
_NUMBER_BYTES = 8
_LENGTH = RANDOM_BYTES + _NUMBER_BYTES + CHECKSUM_LENGTH


class WebAuthnChallenges:
    """Makes challenges, and uses each of them once.

    Args:
        clock: epoch seconds that never go back within the process.
    """

    def __init__(self, checksums: Checksums, clock: Callable[[], float] | None = None) -> None:
        self._checksums = checksums
        self._clock = SteadyClock() if clock is None else clock

    def make(self, purpose: str) -> bytes:
        """A new challenge.

        Args:
            purpose: its purpose and its user.
        """
        until = int(self._clock()) + CHALLENGE_SECONDS
        text = secrets.token_bytes(RANDOM_BYTES) + until.to_bytes(_NUMBER_BYTES, "big")
        return text + self._checksums.sign(_signed(text, purpose)).encode()

    def is_valid(self, challenge: bytes, purpose: str) -> bool:
        """Whether it was made here for this purpose, and is not too old. Looks nothing up."""
        text, checksum = challenge[:-CHECKSUM_LENGTH], challenge[-CHECKSUM_LENGTH:]
        if len(challenge) != _LENGTH:
            return False
        if not self._checksums.verify(_signed(text, purpose), checksum.decode("latin-1")):
            return False
        left = self._until(challenge) - self._clock()
        return 0 < left <= CHALLENGE_SECONDS + CLOCK_SKEW_SECONDS

    def use(self, db: peewee.Database, challenge: bytes) -> bool:
        """Use a valid challenge up within the caller's transaction. False: it was used before."""
        until = self._until(challenge) + KEEP_SECONDS
        return use_once(db, "webauthn", challenge.hex(), until)

    @staticmethod
    def _until(challenge: bytes) -> int:
        return int.from_bytes(challenge[RANDOM_BYTES : RANDOM_BYTES + _NUMBER_BYTES], "big")


def _signed(text: bytes, purpose: str) -> str:
    return f"webauthn\0{purpose}\0{text.hex()}"
