"""The key pairs of app tokens: generated here, published as a JWK Set (RFC 7517), and rotated.

A new pair is published before it signs, for at least as long as backends may cache the set. The
previous one stays published until the last token that it signed has expired. So no token is refused
during a rotation. The private keys are encrypted with ENCRYPTION_KEYS; nodes read the rows every
minute.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import msgspec
import peewee
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm
from jwt.utils import base64url_encode

from models.app_key import AppKey
from services.errors import Unavailable
from services.storage.database import Database
from services.storage.encryption import DecryptionFailed, Encryption

MAX_LIFE_SECONDS = 300.0
"""Of an app token."""
CACHE_SECONDS = 300
"""How long clients may cache the key set."""
AHEAD_SECONDS = 600.0
"""From when a new pair is published until it signs: CACHE_SECONDS, the minute in which every node
reads it, and a margin for clocks that differ."""
SPARE_SECONDS = 60.0
"""By which an old pair is published longer than its tokens live."""
READ_AGAIN_SECONDS = 1.0

log = logging.getLogger("usher.app-keys")


class PublicKey(msgspec.Struct, frozen=True):
    """A public key as a JWK (RFC 7517 section 4, RFC 7518 section 6.2.1)."""

    kty: str
    crv: str
    x: str
    y: str
    kid: str
    use: str
    alg: str


class KeyPair(msgspec.Struct, frozen=True):
    """A key pair with its times, epoch seconds.

    Attributes:
        private: None if no encryption key fits.
        signs_from: when it starts to sign.
        ends_at: when the last token that it signed has expired.
    """

    number: int
    jwk: PublicKey
    private: ec.EllipticCurvePrivateKey | None
    public: ec.EllipticCurvePublicKey
    signs_from: float
    ends_at: float


class AppKeys:
    """The key pairs, as last read by this node.

    Args:
        wanted: whether to generate a first pair, because APP_AUDIENCES is set.
        keys_are_wrong: whether ENCRYPTION_KEYS do not fit the stored data; then no pair is
            generated.
    """

    def __init__(
        self,
        database: Database,
        encryption: Encryption,
        wanted: bool,
        keys_are_wrong: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._encryption, self._wanted = database, encryption, wanted
        self._keys_are_wrong, self._clock = keys_are_wrong, clock
        self._pairs: list[KeyPair] = []
        self._read_at = -math.inf

    # ---- asked -----------------------------------------------------------------------------

    def published(self) -> list[PublicKey]:
        """The public keys that verify current app tokens."""
        now = self._clock()
        return [pair.jwk for pair in self._pairs if pair.ends_at > now]

    def signer(self) -> KeyPair:
        """The pair that currently signs.

        Raises:
            Unavailable: there is no pair, or no encryption key fits it.
        """
        now = self._clock()
        signing = [pair for pair in self._pairs if pair.signs_from <= now] or self._pairs[:1]
        if not signing or signing[-1].private is None:
            raise Unavailable("app tokens: no key pair that can be used")
        return signing[-1]

    async def find(self, kid: str) -> KeyPair | None:
        """A published pair by its id. If it is unknown, the rows are read again.

        Raises:
            DatabaseUnavailable: the pair is unknown, and the rows cannot be read.
        """
        found = self._find(kid)
        if found is None and time.monotonic() - self._read_at >= READ_AGAIN_SECONDS:
            await self.read()
            found = self._find(kid)
        return found

    def _find(self, kid: str) -> KeyPair | None:
        now = self._clock()
        return next((p for p in self._pairs if p.jwk.kid == kid and p.ends_at > now), None)

    # ---- read ------------------------------------------------------------------------------

    async def read(self) -> None:
        """Read the pairs, generate the first one if there is none, and delete expired ones.

        Raises:
            DatabaseUnavailable: the read failed; retry later.
        """
        self._read_at = time.monotonic()
        rows = await self._database.run(_rows)
        if not rows and self._wanted and not self._keys_are_wrong():
            rows = await self._database.run(_first, self._encryption, self._clock())
        pairs = [self._pair(rows, place) for place in range(len(rows))]
        ended = [p.number for p in pairs if p.ends_at < self._clock() - SPARE_SECONDS]
        if ended:
            await self._database.run(_drop, ended)
        self._pairs = [pair for pair in pairs if pair.number not in ended]

    def _pair(self, rows: list[AppKey], place: int) -> KeyPair:
        row, ends_at = rows[place], math.inf
        if place + 1 < len(rows):
            ends_at = _signs_from(rows, place + 1) + MAX_LIFE_SECONDS + SPARE_SECONDS
        jwk = msgspec.json.decode(row.public_key, type=PublicKey)
        public: Any = ECAlgorithm.from_jwk(msgspec.to_builtins(jwk))
        return KeyPair(
            row.number, jwk, self._private(row), public, _signs_from(rows, place), ends_at
        )

    def _private(self, row: AppKey) -> ec.EllipticCurvePrivateKey | None:
        try:
            key = load_pem_private_key(self._encryption.decrypt(row.private_key), password=None)
        except DecryptionFailed:
            log.error("app tokens: no encryption key fits the key pair %d", row.number)
            return None
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def add_pair(db: peewee.Database, encryption: Encryption, now: float) -> None:
    """Generate the next key pair, in the caller's transaction. Of concurrent ones one is kept."""
    newest = AppKey.select(peewee.fn.MAX(AppKey.number)).scalar(db)
    _insert(db, encryption, now, (newest or 0) + 1)


def has_pair(db: peewee.Database) -> bool:
    """Whether there is a key pair: app tokens are in use."""
    return bool(AppKey.select().exists(db))


def _signs_from(rows: list[AppKey], place: int) -> float:
    # Before the first one nothing was signed, so no cached set can lack it.
    return float(rows[place].created_at) + (AHEAD_SECONDS if place else 0.0)


def _rows(db: peewee.Database) -> list[AppKey]:
    return list(AppKey.select().order_by(AppKey.number).execute(db))


def _first(db: peewee.Database, encryption: Encryption, now: float) -> list[AppKey]:
    _insert(db, encryption, now, 1)
    return _rows(db)


def _drop(db: peewee.Database, numbers: list[int]) -> None:
    AppKey.delete().where(AppKey.number.in_(numbers)).execute(db)


def _insert(db: peewee.Database, encryption: Encryption, now: float, number: int) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    jwk = _jwk(private.public_key())
    row = {
        "number": number,
        "kid": jwk.kid,
        "private_key": encryption.encrypt(pem),
        "public_key": msgspec.json.encode(jwk).decode(),
        "created_at": now,
    }
    AppKey.insert(row).on_conflict_ignore().execute(db)


def _jwk(public: ec.EllipticCurvePublicKey) -> PublicKey:
    numbers = public.public_numbers()
    x, y = (base64url_encode(n.to_bytes(32, "big")).decode() for n in (numbers.x, numbers.y))
    # RFC 7638 section 3: the required members, sorted, without white space.
    thumbprint = msgspec.json.encode({"crv": "P-256", "kty": "EC", "x": x, "y": y})
    kid = base64url_encode(hashlib.sha256(thumbprint).digest()).decode()
    return PublicKey("EC", "P-256", x, y, kid, "sig", "ES256")
