"""Inserts, finds and deletes rows of one-time links, within the caller's transaction."""

from __future__ import annotations

import peewee

from models.account_link import AccountLink
from models.user import User
from services.opaque import token_hash
from services.storage.row_locks import locked_one

PASSWORD = "password"  # noqa: S105  # a purpose
CLOCK_SKEW_SECONDS = 60.0
"""How far the clocks of nodes may be apart. A link that was made further ahead is not taken: a
clock was set back, and nothing is known of its age."""


def insert(
    db: peewee.Database, hash_: str, user: User, purpose: str, now: float, seconds: float
) -> None:
    """Insert a link to an account.

    Args:
        hash_: the hash of its token.
        user: the account; the link is valid only while its state is the same.
        seconds: how long the link is valid.
    """
    AccountLink.insert(
        hash=hash_,
        user=user.id,
        purpose=purpose,
        state=_state_of(user),
        created_at=now,
        expires_at=now + seconds,
    ).execute(db)


def account_of(db: peewee.Database, hash_: str, purpose: str, now: float) -> User | None:
    """The account of a valid link, not locked; None if the link is not valid."""
    link = AccountLink.select().where(AccountLink.hash == hash_).get_or_none(db)
    if link is None:
        return None
    user = User.select().where(User.id == link.user_id).get_or_none(db)
    return user if _is_valid(link, user, purpose, now) else None


def take(db: peewee.Database, hash_: str, purpose: str, now: float) -> User | None:
    """Like `account_of`, but lock the account until the commit, and use the link up. Of concurrent
    callers only one gets the account."""
    link = AccountLink.select().where(AccountLink.hash == hash_).get_or_none(db)
    if link is None:
        return None
    user = locked_one(User.select().where(User.id == link.user_id), db)
    # Read again behind the account's lock: whoever was faster has deleted it.
    link = AccountLink.select().where(AccountLink.hash == hash_).get_or_none(db)
    if link is None or not _is_valid(link, user, purpose, now):
        return None
    AccountLink.delete().where(AccountLink.hash == hash_).execute(db)
    return user


def forget(db: peewee.Database, user_id: str) -> None:
    """Invalidate every link to an account."""
    AccountLink.delete().where(AccountLink.user == user_id).execute(db)


def _is_valid(link: AccountLink, user: User | None, purpose: str, now: float) -> bool:
    return (
        user is not None
        and user.disabled_at is None
        and link.purpose == purpose
        and link.state == _state_of(user)
        and link.created_at - CLOCK_SKEW_SECONDS <= now < link.expires_at
    )


def _state_of(user: User) -> str:
    """Another password, another address, or one that was proven meanwhile: then whoever got the
    link may be somebody else than whose account it is now. An administrator's account is another
    as well: a key that may not touch one must not get in by a link that it was given before."""
    state = f"{user.email}\0{bool(user.email_verified)}\0{user.password_hash or ''}"
    return token_hash(f"{state}\0admin" if user.role == "admin" else state)
