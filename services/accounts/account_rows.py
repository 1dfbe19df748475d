"""Finds, inserts and changes rows of accounts, within the caller's transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import peewee

from models.known_network import KnownNetwork
from models.totp_secret import TotpSecret
from models.user import User
from services.claims import Role
from services.errors import LastAdmin, NotFound
from services.outbox import (
    NO_OUTBOX,
    Changed,
    EventType,
    Outbox,
    OutgoingEvent,
    UserEvent,
    user_subject,
)
from services.registration.registration import Admitted
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.storage.row_locks import locked, locked_one
from services.storage.text_search import contains

log = logging.getLogger("usher.accounts")


class UserRow(msgspec.Struct, frozen=True):
    """An account, as shown to administrators. Times are epoch seconds."""

    id: str
    email: str
    name: str
    role: Role
    disabled: bool
    created_at: float


def is_anybody(db: peewee.Database) -> bool:
    """Whether any account exists."""
    return bool(User.select().exists(db))


def say_first(user_id: str) -> None:
    """Log the first account, so that an operator who tested a script or a provider first learns at
    once that this account became administrator."""
    log.warning("user=%s is the administrator: it is the first account of all", user_id)


def write_event(
    db: peewee.Database,
    outbox: Outbox,
    type_: EventType,
    user: User,
    changed: Changed | msgspec.UnsetType = msgspec.UNSET,
) -> None:
    """Write an event about an account. Events do not contain its e-mail address.

    Args:
        user: the account in its current state.
        changed: the changed fields, if the event is a change.
    """
    disabled, role = user.disabled_at is not None, cast("Role", user.role)
    data = UserEvent(user.id, user.name, role, disabled, changed)
    outbox.add(db, [OutgoingEvent(type_, user_subject(user.id), data)])


def insert_first_or_next(
    db: peewee.Database,
    values: dict[str, object],
    outbox: Outbox = NO_OUTBOX,
    admit: Callable[[], Admitted] = Admitted,
) -> Admitted:
    """Insert an account, as administrator if it is the first one.

    Args:
        admit: decides on an account that is not the first, and raises what refuses it.

    Raises:
        peewee.IntegrityError: the address is taken, or another account was first concurrently.
    """
    if is_anybody(db):
        admitted = admit()
        insert_next(db, values, outbox, admitted.role)
        return admitted
    # `founder` is unique, so only one of several concurrent sign-ups can be the first.
    User.insert(**values, role="admin", founder=1).execute(db)
    write_event(db, outbox, "user.created", User(**values, role="admin"))
    return Admitted("admin")


def insert_next(
    db: peewee.Database, values: dict[str, object], outbox: Outbox = NO_OUTBOX, role: Role = "user"
) -> None:
    """Insert an account that is not the first.

    Raises:
        peewee.IntegrityError: the address is taken.
    """
    User.insert(**values, role=role).execute(db)
    write_event(db, outbox, "user.created", User(**values, role=role))


class Found(msgspec.Struct, frozen=True):
    """An account that a client tries to sign in to.

    Attributes:
        is_known_here: whether it has signed in from this network before.
        has_second_factor: whether a password alone does not sign in.
    """

    id: str
    password_hash: str | None
    is_known_here: bool
    has_second_factor: bool


def find(db: peewee.Database, address: str, network: str) -> Found | None:
    """The account with this normalised address, and whether it is known in this network."""
    known = (KnownNetwork.user == User.id) & (KnownNetwork.network == network)
    query = (
        User.select(User.id, User.password_hash, KnownNetwork.network, TotpSecret.confirmed_at)
        .join(KnownNetwork, peewee.JOIN.LEFT_OUTER, on=known)
        .switch(User)
        .join(TotpSecret, peewee.JOIN.LEFT_OUTER, on=(TotpSecret.user == User.id))
        .where(User.email == address)
    )
    row: Any = query.tuples().get_or_none(db)
    return None if row is None else Found(row[0], row[1], row[2] is not None, row[3] is not None)


def by_id(db: peewee.Database, user_id: str) -> User | None:
    """The account with this id, or None."""
    return User.select().where(User.id == user_id).get_or_none(db)


def swap_hash(db: peewee.Database, user_id: str, old: str, new: str) -> bool:
    """Replace the password hash `old`. Returns False if the hash has changed meanwhile."""
    same = (User.id == user_id) & (User.password_hash == old)
    return bool(User.update({User.password_hash: new}).where(same).execute(db))


def page(db: peewee.Database, after: str, limit: int) -> list[UserRow]:
    """Accounts by id, those after `after`."""
    query = User.select().where(User.id > after).order_by(User.id).limit(limit)
    return [row_of(user) for user in query.execute(db)]


def search(
    db: peewee.Database, words: str, older_than: tuple[float, str] | None, limit: int
) -> list[UserRow]:
    """Accounts, newest first, with `words` in the name or e-mail address, or as the id.

    It reads accounts in the order of an index until the page is full. With words that no account
    has,
    it reads all of them: 25 to 40 ms of CPU for 100,000 accounts.

    Args:
        older_than: creation time and id of the last account of the page before.
    """
    query = User.select()
    if older_than is not None:
        at, user_id = older_than
        same_moment = (User.created_at == at) & (User.id < user_id)
        query = query.where((User.created_at <= at) & ((User.created_at < at) | same_moment))
    if words:
        named = contains(db, User.name, words) | contains(db, User.email, words)
        query = query.where(named | (User.id == words))
    found = query.order_by(User.created_at.desc(), User.id.desc()).limit(limit)
    return [row_of(user) for user in found.execute(db)]


def by_ids(db: peewee.Database, ids: Sequence[str]) -> list[UserRow]:
    """Those of these accounts that are there."""
    return [row_of(user) for user in User.select().where(User.id.in_(ids)).execute(db)]


def by_address(db: peewee.Database, address: str) -> list[UserRow]:
    """The account with this normalised address, or None."""
    return [row_of(user) for user in User.select().where(User.email == address).execute(db)]


def row_of(user: User) -> UserRow:
    """The account as shown to administrators."""
    disabled, role = user.disabled_at is not None, cast("Role", user.role)
    return UserRow(user.id, user.email, user.name, role, disabled, user.created_at)


def lock(db: peewee.Database, which: peewee.Expression, demoting: bool) -> User | None:
    """Lock and return an account until the commit, or None if there is none.

    Args:
        which: a condition that at most one account meets.
        demoting: whether the account may lose the role of administrator. Then all administrators
            are locked first, in a fixed order, to avoid a deadlock between two such changes.
    """
    if demoting:
        user = User.select(User.role).where(which).get_or_none(db)
        if user is not None and user.role == "admin":
            _lock_admins(db)
    return locked_one(User.select().where(which), db)


def for_change(db: peewee.Database, user_id: str) -> User:
    """Lock an account until the commit, for any kind of change.

    Raises:
        NotFound: the account does not exist.
    """
    user = lock(db, User.id == user_id, demoting=True)
    if user is None:
        raise NotFound("no such account")
    return user


def delete(db: peewee.Database, user_id: str, outbox: Outbox = NO_OUTBOX) -> None:
    """Delete the row of an account, if it still exists."""
    user = lock(db, User.id == user_id, demoting=True)
    if user is not None:
        User.delete().where(User.id == user_id).execute(db)
        write_event(db, outbox, "user.deleted", user)


def change_role(
    db: peewee.Database,
    revocations: Revocations,
    user: User,
    role: Role,
    now: float,
    outbox: Outbox = NO_OUTBOX,
) -> list[Revocation]:
    """Change the role of a locked account. Publish the returned change after the commit.

    Raises:
        LastAdmin: no administrator would be left.
    """
    if role == user.role:
        return []
    if role != "admin":
        keep_an_admin(db, user)
    User.update({User.role: role, User.role_since: now}).where(User.id == user.id).execute(db)
    user.role = role
    write_event(db, outbox, "user.changed", user, "role")
    return [revocations.record(db, "role", user.id, user.id, "role_changed", role)]


def keep_an_admin(db: peewee.Database, user: User) -> None:
    """Refuse a change that would leave no administrator who can sign in."""
    if user.role != "admin" or user.disabled_at is not None:
        return
    if _lock_admins(db) == [user.id]:
        raise LastAdmin("no other administrator is left")


def _lock_admins(db: peewee.Database) -> list[str]:
    """Lock the administrators who can sign in, so that two cannot demote each other."""
    query = User.select(User.id).where((User.role == "admin") & User.disabled_at.is_null())
    return [row.id for row in locked(query.order_by(User.id), db).execute(db)]
