"""Decides when repeated refusals to refresh mean that the provider has ended a session.

Some providers never answer `invalid_grant`; docs/oauth.md names them.
"""

from __future__ import annotations

from services.errors import UsherError
from services.oauth.errors import ProviderRefused
from services.providers.tokens import TokenSet

LEAST_REFUSALS = 5
"""Tries, before a provider that refuses has ended something: a clock may leap."""
CLIENTS_OWN = frozenset(
    ("invalid_client", "invalid_scope", "unauthorized_client", "unsupported_grant_type")
)
"""What a refresh is refused with for the sake of the client, whosever token it is."""


def is_refusal(error: UsherError) -> bool:
    """Whether a failed refresh was refused because of the token."""
    return isinstance(error, ProviderRefused) and error.error_code not in CLIENTS_OWN


def refused_since(tokens: TokenSet, error: UsherError, now: float) -> float | None:
    """Since when a set has been refused, epoch seconds; None while it has not. A call that fails
    otherwise in between changes nothing."""
    if not is_refusal(error):
        return tokens.refused_since
    return min(tokens.refused_since or now, now)


def has_ended(tokens: TokenSet, error: UsherError, now: float, most: float) -> bool:
    """Whether the provider has ended the session.

    Args:
        most: REFUSED_SECONDS of the provider.
    """
    since = refused_since(tokens, error, now)
    steady = is_refusal(error) and tokens.failures + 1 >= LEAST_REFUSALS
    return steady and since is not None and now - since >= most
