"""Devices that have signed in before, known by a signed token that they keep (ASVS 6.3.1).

Strangers who guess at an account must not lock its owner out (OWASP: "Slow Down Online Guessing
Attacks with Device Cookies"). A token is bound to one account, says nothing of it and opens
nothing: it only lets somebody try when strangers no longer may, a few times an hour. It dies
with the secret that it was signed with, and with the account's address when that changes; the
next sign-in makes another.
"""

from __future__ import annotations

import hmac
import secrets as random
from collections.abc import Iterable, Sequence

from services.keyed_tokens import derived_key, url_safe
from services.secret import Secret

ID_BYTES, CHECKSUM_BYTES = 12, 16
MAX_TOKENS = 5
"""Accounts that one browser is known for; the one longest unused goes first."""
MAX_LENGTH = 1024
SEPARATOR = "~"


class Devices:
    """Makes device tokens, and knows them again.

    Args:
        secrets: JWT_SECRETS, newest first: the first signs, all verify.
    """

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._keys = [derived_key(secret, "device") for secret in secrets]

    def token(self, address: str) -> str:
        """A token for the device that an account has just signed in on.

        Args:
            address: the account's, normalised.
        """
        device_id = url_safe(random.token_bytes(ID_BYTES))
        return f"{device_id}.{_signature(self._keys[0], device_id, address)}"

    def recognise(self, kept: str, address: str) -> str | None:
        """The id of a device that has signed in to an account before; None for any other.

        Args:
            kept: what the device presents: a token, or several as `keep` joins them.
            address: the account's, normalised.
        """
        for token in _tokens(kept):
            device_id, _, signature = token.partition(".")
            for key in self._keys:
                if hmac.compare_digest(signature, _signature(key, device_id, address)):
                    return device_id
        return None

    def keep(self, kept: str, address: str) -> str:
        """What a browser keeps from now on: what it had, and a token of this account in front."""
        others = [token for token in _tokens(kept) if self.recognise(token, address) is None]
        return SEPARATOR.join((self.token(address), *others[: MAX_TOKENS - 1]))


def _tokens(kept: str) -> Iterable[str]:
    if len(kept) > MAX_LENGTH or not kept.isascii():
        return ()
    return kept.split(SEPARATOR)[:MAX_TOKENS]


def _signature(key: bytes, device_id: str, address: str) -> str:
    text = f"{device_id}\0{address}".encode("utf-8", "surrogatepass")
    return url_safe(hmac.digest(key, text, "sha256")[:CHECKSUM_BYTES])
