"""Tokens of one-time links, and what is counted of them.

A link is `PUBLIC_URL/PAGE#token=…`: browsers do not send the fragment, so it appears in no log of a
server or proxy. Tokens are stored as a hash only.
"""

from __future__ import annotations

from services.errors import LinkRefused
from services.keyed_tokens import Checksums
from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of
from services.opaque import opaque_token, token_hash
from services.secret import Secret

PREFIX = "usher_pl_"
"""Before tokens, so that secret scanners find leaked ones."""
MAX_TOKEN_LENGTH = 128


class LinkTokens:
    """Makes tokens, and recognises them.

    Args:
        checksums: verify a token's checksum before a look-up.
        public_url: the URL at which browsers reach the server, without a trailing slash.
    """

    def __init__(self, checksums: Checksums, limits: HourlyLimits, public_url: str) -> None:
        self._checksums, self._limits, self._public_url = checksums, limits, public_url

    def make(self, page: str) -> tuple[str, Secret]:
        """The hash of a new token, and the URL of its link.

        Args:
            page: the path of the page, such as `/set-password`.
        """
        text = opaque_token(PREFIX).reveal()
        token = text + self._checksums.sign(text)
        return token_hash(token), Secret(f"{self._public_url}{page}#token={token}")

    async def recognise(self, token: str, ip: str) -> str:
        """The hash of a token that was made here. No look-up is made.

        Args:
            ip: the client's address.

        Raises:
            LinkRefused: it is invented.
            RateLimited: too many invalid links from this address in an hour, or too many attempts
                with one link. A valid link is accepted even if its address sent many invalid ones.
        """
        if not self._checksums.holds(token, PREFIX, MAX_TOKEN_LENGTH):
            raise await self.refused("not one of ours, by its form", ip)
        (await self._limits.take((self._limits.of.refresh_reuse, token))).require()
        return token_hash(token)

    async def refused(self, evidence: str, ip: str) -> LinkRefused:
        """Count an invalid link for the client's address. Returns the error to raise.

        Raises:
            RateLimited: too many invalid links.
        """
        limits = self._limits
        (await limits.take((limits.of.bad_tokens, network_of(ip)))).require()
        return LinkRefused(f"link: {evidence}")
