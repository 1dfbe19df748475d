"""Logs a warning when a role claim is never present.

A misspelt claim name gives no user a role and would otherwise go unnoticed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from services.settings.providers import OAuthProvider

SIGN_INS = 100
"""Consecutive sign-ins without the claim before a warning is logged."""
MAX_NAMES = 30

log = logging.getLogger("usher.oauth")


class RoleClaims:
    """Counts, for each provider of this process, sign-ins without its role claim."""

    def __init__(self) -> None:
        self._missing: dict[str, int] = {}

    def record(self, provider: OAuthProvider, claims: Mapping[str, Any], was_there: bool) -> None:
        """A sign-in whose claims were read."""
        if was_there or not provider.role_claim:
            self._missing[provider.name] = 0
            return
        missing = self._missing.get(provider.name, 0) + 1
        self._missing[provider.name] = missing % SIGN_INS
        if missing == SIGN_INS:
            names = sorted(name for name in claims if name.isprintable())[:MAX_NAMES]
            log.warning(
                "%s: ROLE_CLAIM %s was in none of the last %d sign-ins; the last one had: %s",
                provider.name,
                provider.role_claim,
                SIGN_INS,
                ", ".join(names),
            )
