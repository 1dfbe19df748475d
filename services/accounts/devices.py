"""Device cookies: signed tokens that recognise devices that have signed in before (ASVS 6.3.1).

An unauthenticated client that guesses passwords must not lock the owner of the account out (OWASP:
"Slow Down Online Guessing Attacks with Device Cookies"). A token is bound to one account, does not
name it, and grants no access. It only allows a few attempts an hour when clients without one are
refused. It becomes invalid with the secret that signed it and when the account's address changes;
the next sign-in issues another.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Iterable

from services.keyed_tokens import Checksums

ID_BYTES = 12
MAX_TOKENS = 5
"""Accounts that one browser is known for; beyond it, the least recently used one is removed."""
MAX_LENGTH = 1024
SEPARATOR = "~"


class Devices:
    """Creates and verifies device tokens."""

    def __init__(self, checksums: Checksums) -> None:
        self._checksums = checksums

    def token(self, address: str) -> str:
        """Create a token for a device that an account has just signed in on.

        Args:
            address: the account's normalised e-mail address.
        """
        device_id = random.token_urlsafe(ID_BYTES)
        return f"{device_id}.{self._checksums.sign(_signed(device_id, address))}"

    def recognise(self, kept: str, address: str) -> str | None:
        """The id of a device that has signed in to an account before; None for any other.

        Args:
            kept: the value that the device presents: one token, or several as joined by `keep`.
            address: the account's normalised e-mail address.
        """
        for token in _tokens(kept):
            device_id, _, checksum = token.partition(".")
            if self._checksums.verify(_signed(device_id, address), checksum):
                return device_id
        return None

    def keep(self, kept: str, address: str) -> str:
        """The value that a browser stores: its previous tokens, with this account's in front."""
        others = [token for token in _tokens(kept) if self.recognise(token, address) is None]
        return SEPARATOR.join((self.token(address), *others[: MAX_TOKENS - 1]))


def _tokens(kept: str) -> Iterable[str]:
    if len(kept) > MAX_LENGTH or not kept.isascii():
        return ()
    return kept.split(SEPARATOR)[:MAX_TOKENS]


def _signed(device_id: str, address: str) -> str:
    return f"{device_id}\0{address}"
