"""Facts about the installation as a whole."""

from __future__ import annotations

import peewee

from models.base import Row


class Installation(Row):
    """One named value, e.g. the canary that shows whether ENCRYPTION_KEYS are the right ones."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()

    class Meta:
        table_name = "installation"
