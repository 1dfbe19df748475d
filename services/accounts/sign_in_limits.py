"""Limits password attempts without locking out the owner of an account (ASVS 6.3.1).

Failed sign-ins count for the client address, whichever accounts they name, so a spray over many
accounts is limited like guessing at one. A successful sign-in is not counted, so an office of
thousands behind one address is not limited. A device or network that has signed in to an account
before has a few attempts of its own for that account. They remain when its address has used up its
limit, or when unauthenticated clients have used up the account's.
"""

from __future__ import annotations

from services.errors import RateLimited
from services.limits.hourly import HourlyLimits, Taken

_ADDRESS, _OWN, _ACCOUNT = 0, 1, 2


class SignInAttempt:
    """One sign-in attempt, counted as failed until it succeeds.

    Attributes:
        is_doubtful: it may continue only if the account is known at its address: `require_known`.
    """

    def __init__(self, taken: Taken, known_device: bool) -> None:
        self._taken = taken
        waits = taken.waits
        as_unknown = _longest(waits[_ADDRESS], *waits[_ACCOUNT:])
        self._wait = as_unknown
        self.is_doubtful = as_unknown is not None and not known_device
        if as_unknown is None or (known_device and waits[_OWN] is None):
            return
        own = waits[_OWN]
        if own is not None:
            taken.give_back()
            wait = min(as_unknown, own) if known_device else as_unknown
            raise RateLimited("sign-in: too many wrong ones", retry_after=wait)

    def require_known(self, is_known: bool) -> None:
        """Refuse a doubtful attempt unless the account has signed in from this address before.

        Raises:
            RateLimited: it has not. The attempt is counted for address and account together, so
                that further attempts are soon refused without a look-up.
        """
        if self.is_doubtful and not is_known:
            wait = self._wait or 1.0
            raise RateLimited("sign-in: too many failures, and no known device", retry_after=wait)

    def give_back(self) -> None:
        """Do not count the attempt: it succeeded, or its result is unknown."""
        self._taken.give_back()


class FactorAttempt:
    """An attempt to give a second factor. It counts as a sign-in or as wrong, once it is known."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken

    def right(self) -> None:
        """Count a sign-in, and nothing else."""
        guesses = range(1, len(self._taken.waits))
        if guesses:
            self._taken.give_back(*guesses)

    def wrong(self) -> None:
        """Count a wrong attempt, and no sign-in."""
        self._taken.give_back(0)

    def unknown(self) -> None:
        """Count nothing."""
        self._taken.give_back()


class SignInLimits:
    """Limits sign-in attempts and password checks.

    Args:
        limits: the hourly counters.
    """

    def __init__(self, limits: HourlyLimits) -> None:
        self._limits = limits

    async def begin(self, account: str, network: str, device_id: str | None) -> SignInAttempt:
        """Begin an attempt.

        Args:
            account: the normalised e-mail address, whether or not it has an account.
            network: the client's network.
            device_id: the id of a device that has signed in to this account before.

        Raises:
            RateLimited: whether or not the password is correct and the account exists.
        """
        of = self._limits.of
        own = f"{account}\0{network}" if device_id is None else f"device {device_id}"
        wanted = [(of.wrong_signins, network), (of.own_guesses, own)]
        if device_id is None:
            wanted.append((of.account_guesses, account))
        return SignInAttempt(await self._limits.take(*wanted), device_id is not None)

    async def begin_confirmation(self, session_id: str) -> Taken:
        """Begin to verify the password of a signed-in user. Failures count for the login session,
        so that a stolen session cannot lock the owner out of the others.

        Raises:
            RateLimited: too many passwords were wrong.
        """
        taken = await self._limits.take((self._limits.of.session_guesses, session_id))
        taken.require()
        return taken

    async def begin_sign_up(self, network: str) -> Taken:
        """Begin a sign-up.

        Raises:
            RateLimited: too many from this address.
        """
        taken = await self._limits.take((self._limits.of.signups, network))
        taken.require()
        return taken

    async def begin_factor(
        self, user_id: str, network: str, device_id: str | None, is_known: bool, guessable: bool
    ) -> FactorAttempt:
        """Begin to verify a second factor.

        A code of six digits can be guessed. For it, a known device and a known address have
        attempts of their own, and all others share those of the account. So attackers who know the
        password use up the shared attempts, and not the owner's. Recovery codes and passkeys cannot
        be guessed, so they have no such limit.

        Args:
            device_id: the id of a device that has signed in to this account before.
            is_known: whether the account has signed in from this network before.
            guessable: whether it is a code of six digits.

        Raises:
            RateLimited: too many were wrong, or too many sign-ins of this user.
        """
        of = self._limits.of
        wanted = [(of.signins, user_id)]
        if device_id is None and not is_known:
            wanted.append((of.wrong_signins, network))
        if guessable:
            own = f"account {user_id}\0{network}" if is_known else f"account {user_id}"
            wanted.append((of.factor_guesses, f"device {device_id}" if device_id else own))
        taken = await self._limits.take(*wanted)
        taken.require()
        return FactorAttempt(taken)

    async def count_half_sign_in(self, user_id: str, network: str) -> None:
        """Count a sign-in whose password was correct, and that waits for its second factor.

        Raises:
            RateLimited: too many from this address.
        """
        limit = self._limits.of.half_signins
        (await self._limits.take((limit, f"{user_id}\0{network}"))).require()

    async def count_sign_in(self, user_id: str) -> None:
        """Count a sign-in of a user whose password was correct.

        Raises:
            RateLimited: too many sign-ins.
        """
        (await self._limits.take((self._limits.of.signins, user_id))).require()


def _longest(*waits: float | None) -> float | None:
    return max((wait for wait in waits if wait is not None), default=None)
