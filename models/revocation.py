"""Revocations of tokens, login sessions, users and rights."""

from __future__ import annotations

import peewee

from models.base import Row


class Revocation(Row):
    """One revocation. The rows are authoritative; Redis and messages between nodes only make it
    faster.

    No foreign keys: it has to outlive the account and the session that it shuts out.

    Attributes:
        id: counts up and is never given out twice, also not after old rows were deleted. Rows
            of transactions that overlap may become visible out of order (PostgreSQL), so read
            by `created_at` with an overlap, not by `id` alone.
        kind: "session", "token", "user", "bearer", "role" or "access".
        subject: the sid, the jti, the user id, the jti, the user id or the channel id, by `kind`.
        user_id: whose it was.
        role: for kind "role", the role that counts from now on.
        generation: for kind "user", the user's from now on: login sessions below it are over.
        exempt: for kind "user", the `sid` of the one session that continues, or empty; for kind
            "bearer", the id of the one socket session that may hold the token.
        reason: a word for the audit log and the close reason.
        created_at: epoch seconds.
        expires_at: epoch seconds; past it no token that it shuts out is valid anyway.
    """

    id = peewee.BigAutoField()
    kind = peewee.TextField()
    subject = peewee.TextField()
    user_id = peewee.TextField()
    role = peewee.TextField(default="")
    reason = peewee.TextField()
    created_at = peewee.DoubleField(index=True)
    expires_at = peewee.DoubleField(index=True)
    generation = peewee.IntegerField(default=0)
    exempt = peewee.TextField(default="", column_name="spared")

    class Meta:
        table_name = "revocations"
        indexes = ((("subject", "kind"), False),)
