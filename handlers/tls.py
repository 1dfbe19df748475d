"""TLS in the process: one context for all connections, whose certificate can be reloaded."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from tornado.iostream import SSLIOStream

from services.errors import SettingError

HANDSHAKE_SECONDS = 5.0
"""How long a TLS handshake may take. Tornado itself waits for ever."""
CERTIFICATE, KEY = "USHER_TLS_CERTIFICATE", "USHER_TLS_KEY"

log = logging.getLogger("usher.tls")


class Tls:
    """The certificate of a server.

    Args:
        certificate: PEM file of the certificate and its chain.
        key: PEM file of its private key, without a password.

    Raises:
        SettingError: a file cannot be read or is invalid, or the key is another certificate's.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self.context = self._load()

    def reload(self) -> None:
        """Reload the files, for new connections. Existing ones are not affected.

        It creates a new `context`, because an existing one keeps a certificate for each type of
        key: after a renewal with an ECDSA key, it would still send the old RSA one to some clients.

        Raises:
            SettingError: as the constructor. The old certificate stays in use.
        """
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 section 3.1.1
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        for path, name in ((self._certificate, CERTIFICATE), (self._key, KEY)):
            try:
                path.read_bytes()
            except OSError as error:
                raise SettingError(name, f"{path} ({error.strerror})", "a PEM file") from error
        try:
            # For a key with a password, OpenSSL would prompt on the terminal.
            context.load_cert_chain(self._certificate, self._key, password=_refuse_password_prompt)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", "") or str(error)
            if reason == "KEY_VALUES_MISMATCH":
                takes = f"the private key of the certificate in {CERTIFICATE}"
                raise SettingError(KEY, f"{self._key} (of another certificate)", takes) from error
            got = f"{self._certificate} and {self._key} ({reason})"
            takes = "PEM files of a certificate and its private key, without a password"
            raise SettingError(CERTIFICATE, got, takes) from error
        return context


def limit_handshake(stream: SSLIOStream) -> asyncio.Future[SSLIOStream]:
    """Close a connection whose TLS handshake does not complete in time. Returns a future that is
    done when the handshake is over, however it ends."""
    loop = asyncio.get_running_loop()
    done = stream.wait_for_handshake()
    timer = loop.call_later(HANDSHAKE_SECONDS, stream.close)

    def on_handshake_done(future: asyncio.Future[SSLIOStream]) -> None:
        timer.cancel()
        if not future.cancelled() and future.exception() is not None:
            log.debug("TLS handshake failed")

    done.add_done_callback(on_handshake_done)
    return done


def _refuse_password_prompt() -> str:
    raise ValueError("the key has a password")
