"""WebSocket tickets that were issued while Redis was unavailable."""

from __future__ import annotations

import peewee

from models.base import Row


class Ticket(Row):
    """One unused ticket. Deleting the row is using it: only one of two racing sockets can.

    Attributes:
        hash: SHA-256 of the ticket.
        payload: the claims of the ticket, as JSON.
        expires_at: epoch seconds.
    """

    hash = peewee.TextField(primary_key=True)
    payload = peewee.TextField()
    expires_at = peewee.DoubleField(index=True)

    class Meta:
        table_name = "tickets"
