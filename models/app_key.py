"""The key pairs that sign app tokens."""

from __future__ import annotations

import peewee

from models.base import Row


class AppKey(Row):
    """One key pair for ES256 (RFC 7518 section 3.4).

    Attributes:
        number: increasing; the newest has the highest. Of two concurrent ones one is kept.
        kid: its JWK thumbprint (RFC 7638).
        private_key: PKCS #8 in PEM, encrypted with ENCRYPTION_KEYS.
        public_key: a JWK (RFC 7517) as JSON.
        created_at: epoch seconds.
    """

    number = peewee.IntegerField(primary_key=True)
    kid = peewee.TextField(unique=True)
    private_key = peewee.TextField()
    public_key = peewee.TextField()
    created_at = peewee.DoubleField()

    class Meta:
        table_name = "app_keys"
