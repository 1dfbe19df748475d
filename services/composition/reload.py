"""Reloads the secrets that rotate, on SIGHUP.

JWT_SECRETS and ENCRYPTION_KEYS can change, from DATA_DIR or from the files that
`USHER_JWT_SECRETS_FILE` and `USHER_ENCRYPTION_KEYS_FILE` name. Open sockets are not affected: a
token is checked when it is presented, and older secrets still verify.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from services.composition.container import Services
from services.errors import DatabaseUnavailable, SettingError
from services.settings.settings import Settings, error_line

SETTLE_SECONDS = 10.0
"""A new secret verifies at once, and signs this much later, because other nodes and processes read
it one after the other."""
SECRETS = ("jwt_secrets", "encryption_keys")
NOT_COMPARED = frozenset((*SECRETS, "warnings"))

log = logging.getLogger("usher")


class Reloader:
    """Reloads the settings.

    Args:
        services: the services whose secrets are replaced.
        read: reads the settings as at the start.
        reload_certificate: reloads the files of TLS_CERTIFICATE and TLS_KEY, if TLS is on.
    """

    def __init__(
        self,
        services: Services,
        read: Callable[[], Settings],
        reload_certificate: Callable[[], None] | None = None,
    ) -> None:
        self._services, self._read = services, read
        self._reload_certificate = reload_certificate
        self._current = services.infrastructure.settings
        self._reloads = 0

    async def reload(self) -> bool:
        """Apply the settings that may change. An invalid setting changes nothing, and is logged.

        Returns:
            Whether the settings could be read.
        """
        if self._reload_certificate is not None:
            self._renew(self._reload_certificate)
        missing = [path for path in self._current.key_files if not path.exists()]
        if missing:
            # A start would generate new ones, and sign all users out.
            log.error("settings are not read anew: %s is gone", missing[0])
            return False
        try:
            found = await asyncio.to_thread(self._read)
        except SettingError as error:
            log.error("settings are not read anew: %s", error_line(error))
            return False
        changed = [name for name in SECRETS if getattr(found, name) != getattr(self._current, name)]
        if "jwt_secrets" in changed:
            self._services.tokens.replace_secrets(found.jwt_secrets, SETTLE_SECONDS)
            with suppress(DatabaseUnavailable):  # refresh tokens of removed secrets stay valid
                await self._services.refresh.keys.read()
        if "encryption_keys" in changed:
            self._services.encryption.replace_keys(found.encryption_keys)
            with suppress(DatabaseUnavailable):  # the result of the last check stays
                await self._services.health.recheck_key()
                await self._services.app_keys.read()
        for name in _others(self._current, found):
            log.warning("USHER_%s has changed: that takes a restart", name.upper())
        self._current = msgspec.structs.replace(
            self._current, jwt_secrets=found.jwt_secrets, encryption_keys=found.encryption_keys
        )
        shown = (
            ", ".join(f"USHER_{name.upper()}" for name in changed)
            or "no reloadable setting has changed"
        )
        self._reloads += 1
        if (lock := self._services.infrastructure.lock) is not None:
            lock.record_reloads(self._reloads)
        log.info("settings are read anew: %s", shown)
        return True

    @staticmethod
    def _renew(reload_certificate: Callable[[], None]) -> None:
        try:
            # On the loop: the files are small.
            reload_certificate()
        except SettingError as error:
            log.error("the certificate is not read anew: %s", error_line(error))
        else:
            log.info("the certificate is read anew")


def _others(current: Settings, found: Settings) -> list[str]:
    return [
        field.name
        for field in msgspec.structs.fields(Settings)
        if field.name not in NOT_COMPARED
        and getattr(current, field.name) != getattr(found, field.name)
    ]
