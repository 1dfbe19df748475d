"""Rate-limits token refresh. A refresh token that was not issued here costs no look-up.

A token with a valid checksum is always looked up in the database, however many invalid ones came
from the same address. Invalid ones count for the address; after a hundred in an hour it gets 429.
"""

from __future__ import annotations

import re

from services.errors import Unauthenticated
from services.event_loop.callers import Callers
from services.keyed_tokens import KeyedTokens
from services.limits.hourly import HourlyLimits, Taken
from services.limits.networks import network_of
from services.refresh.keys import WITHOUT_CHECKSUM, RefreshKeys
from services.refresh.rotation import RefreshRotation
from services.sessions.session_views import SignedIn

_WITHOUT_CHECKSUM = re.compile(r"[A-Za-z0-9_-]{43}")

_USER, _TOKEN = 0, 1


class Refreshes:
    """Exchanges refresh tokens under rate limits."""

    def __init__(
        self,
        rotation: RefreshRotation,
        tokens: KeyedTokens,
        keys: RefreshKeys,
        limits: HourlyLimits,
        callers: Callers,
    ) -> None:
        self._callers = callers
        self._rotation, self._tokens, self._keys = rotation, tokens, keys
        self._limits = limits

    async def refresh(self, token: str, ip: str) -> SignedIn:
        """New tokens for a refresh token.

        Args:
            token: as the client sent it.
            ip: the client's address.

        Raises:
            Unauthenticated: as `RefreshRotation.refresh`.
            RateLimited: too many of this user, or too many invalid ones from this address.
        """
        of = self._limits.of
        ours = self._tokens.read(token)
        if ours is not None:
            taken = await self._limits.take((of.refreshes, ours.subject), (of.refresh_reuse, token))
            taken.require()
            with self._callers.on_behalf_of("users", ours.subject):
                return await self._exchange(token, taken, counts_when_good=True)
        taken = await self._limits.take((of.bad_tokens, network_of(ip)))
        taken.require()
        if not self._may_be_live(token):
            raise Unauthenticated("refresh: not one of ours, by its form")
        signed_in = await self._exchange(token, taken, counts_when_good=False)
        await self._limits.take((of.refreshes, signed_in.user.id))
        return signed_in

    async def _exchange(self, token: str, taken: Taken, counts_when_good: bool) -> SignedIn:
        try:
            signed_in = await self._rotation.refresh(token)
        except Unauthenticated:
            if counts_when_good:
                # A holder of an old token must not use up the user's refreshes.
                taken.give_back(_USER)
            raise
        except BaseException:  # also if cancelled: the counted hit must be given back
            taken.give_back()  # it is unknown whether the token was valid
            raise
        if not counts_when_good:
            taken.give_back()
        return signed_in

    def _may_be_live(self, token: str) -> bool:
        """Whether it may be a token of a retired secret, or from before the checksum."""
        if _WITHOUT_CHECKSUM.fullmatch(token):
            return self._keys.is_retired(WITHOUT_CHECKSUM)
        outline = self._tokens.outline(token)
        return outline is not None and self._keys.is_retired(outline.key_id)
