"""Accounts."""

from __future__ import annotations

import peewee

from models.base import Row


class User(Row):
    """One account.

    Attributes:
        id: random, URL-safe; the `sub` of its tokens.
        email: already normalised, so that unique means unique.
        email_verified: whether a provider or a confirmation vouches for the address.
        email_given_up: whether the address was verified and is not any more: somebody else may have
            it now, and proving it gives them nothing of this account.
        name: as shown to others.
        password_hash: PHC string (Argon2id), or None for an account that signs in elsewhere.
        role: "admin" or "user".
        role_since: epoch seconds of its last change; None while it is the first one.
        founder: 1 on the very first account and NULL on all others. Unique, and never
            anything but 1: the database itself lets only one of two racing sign-ups be first.
        disabled_at: epoch seconds, None while the account may sign in.
        generation: counts up whenever all login sessions are ended at once.
        created_at: epoch seconds.
    """

    id = peewee.TextField(primary_key=True)
    email = peewee.TextField(unique=True)
    email_verified = peewee.BooleanField(default=False)
    email_given_up = peewee.BooleanField(default=False)
    name = peewee.TextField()
    password_hash = peewee.TextField(null=True)
    role = peewee.TextField(default="user")
    role_since = peewee.DoubleField(null=True)
    founder = peewee.SmallIntegerField(null=True, unique=True)
    disabled_at = peewee.DoubleField(null=True)
    created_at = peewee.DoubleField()
    generation = peewee.IntegerField(default=0)

    class Meta:
        table_name = "users"
        indexes = ((("created_at", "id"), False),)
