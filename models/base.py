"""The base class of all models.

Models contain no rules and are bound to no database. A query receives its database as an argument,
`User.select().where(...).get_or_none(db)`, inside `services.storage.database.Database.run`.

Times are seconds since the epoch (RFC 7519 section 2, NumericDate), as in the protocol.
Credentials are stored as a hash or as ciphertext, never in clear.
"""

from __future__ import annotations

from typing import ClassVar

import peewee


class Row(peewee.Model):
    """Base of all tables. Each sets a table name: plural, and not a reserved word of SQL."""

    DoesNotExist: ClassVar[type[peewee.DoesNotExist]]  # set by Peewee, unknown to its stubs

    class Meta:
        legacy_table_names = False
