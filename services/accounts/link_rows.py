"""Inserts, finds and deletes rows of one-time links, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, cast

import msgspec
import peewee

from models.account_link import AccountLink
from models.user import User
from services.opaque import token_hash
from services.storage.row_locks import locked_one

Purpose = Literal["password", "reset", "verify", "change", "undo"]
"""`password`: sets a password, and was handed over by somebody. `reset`: the same, and was mailed.
`verify`: proves the account's address. `change`: proves a new one. `undo`: restores a former one
back, whatever has happened to the account meanwhile."""
CLOCK_SKEW_SECONDS = 60.0
"""How far the clocks of nodes may be apart. A link that was made further ahead is not taken: a
clock was set back, and nothing is known of its age."""


class TakenLink(msgspec.Struct, frozen=True):
    """A valid link, and its account. `created_at`: epoch seconds."""

    user: User
    purpose: Purpose
    email: str | None
    created_at: float


def insert(
    db: peewee.Database,
    hash_: str,
    user: User,
    purpose: Purpose,
    now: float,
    seconds: float,
    email: str | None = None,
) -> None:
    """Insert a link to an account.

    Args:
        hash_: the hash of its token.
        user: the account; the link is valid only while its state is the same.
        seconds: how long the link is valid.
        email: the address that it is about, if that is not the account's.
    """
    AccountLink.insert(
        hash=hash_,
        user=user.id,
        purpose=purpose,
        state=state_of(user),
        email=email,
        created_at=now,
        expires_at=now + seconds,
    ).execute(db)


def look(
    db: peewee.Database, hash_: str, purposes: Collection[Purpose], now: float
) -> TakenLink | None:
    """A valid link and its account, not locked and not used up; None if the link is not valid."""
    link = AccountLink.select().where(AccountLink.hash == hash_).get_or_none(db)
    if link is None:
        return None
    user = User.select().where(User.id == link.user_id).get_or_none(db)
    return _taken(link, user, purposes, now)


def take(
    db: peewee.Database, hash_: str, purposes: Collection[Purpose], now: float
) -> TakenLink | None:
    """Like `look`, but lock the account until the commit, and use the link up. Of concurrent
    callers only one gets the account."""
    link = AccountLink.select().where(AccountLink.hash == hash_).get_or_none(db)
    if link is None:
        return None
    user = locked_one(User.select().where(User.id == link.user_id), db)
    # Read again under the account's lock: a concurrent use may have deleted it.
    link = AccountLink.select().where(AccountLink.hash == hash_).get_or_none(db)
    taken = None if link is None else _taken(link, user, purposes, now)
    if taken is not None:
        AccountLink.delete().where(AccountLink.hash == hash_).execute(db)
    return taken


def forget(db: peewee.Database, user_id: str) -> None:
    """Invalidate every link to an account, except those that undo a change of its address, so that
    the thief of an account cannot invalidate these."""
    others = (AccountLink.user == user_id) & (AccountLink.purpose != "undo")
    AccountLink.delete().where(others).execute(db)


def forget_undoing(db: peewee.Database, user_id: str, after: float) -> None:
    """Invalidate the links that undo changes of the address after `after`, because they were sent
    to addresses that the thief may have set."""
    later = (AccountLink.user == user_id) & (AccountLink.purpose == "undo")
    AccountLink.delete().where(
        later & (AccountLink.created_at > after - CLOCK_SKEW_SECONDS)
    ).execute(db)


def is_reserved(db: peewee.Database, address: str, now: float, but: str = "") -> bool:
    """Whether an address may be brought back to another account than `but`, and so is taken."""
    undo = (AccountLink.purpose == "undo") & (AccountLink.email == address)
    active = (AccountLink.expires_at > now) & (AccountLink.user != but)
    return bool(AccountLink.select(AccountLink.hash).where(undo & active).exists(db))


def _taken(
    link: AccountLink, user: User | None, purposes: Collection[Purpose], now: float
) -> TakenLink | None:
    purpose = cast("Purpose", link.purpose)
    if user is None or user.disabled_at is not None or purpose not in purposes:
        return None
    is_same = purpose == "undo" or link.state == state_of(user)
    if is_same and link.created_at - CLOCK_SKEW_SECONDS <= now < link.expires_at:
        return TakenLink(user, purpose, link.email, link.created_at)
    return None


def state_of(user: User) -> str:
    """A hash of the account's state. A link is valid only while it is unchanged.

    If the password, the address or its verification changes, the account may belong to another user
    than the one who received the link. The role is included because an API key that may not change
    administrators must not get access to one by a link that it received before.
    """
    state = f"{user.email}\0{bool(user.email_verified)}\0{user.password_hash or ''}"
    return token_hash(f"{state}\0admin" if user.role == "admin" else state)
