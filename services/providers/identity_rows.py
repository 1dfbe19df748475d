"""The rows of linked accounts, within somebody's transaction."""

from __future__ import annotations

import peewee

from models.identity import Identity, Unlinked
from models.user import User
from services.oauth.userinfo import ProviderProfile, address_of, vouched_address


def same(provider: str, subject: str) -> peewee.Expression:
    """The condition for one identity."""
    return (Identity.provider == provider) & (Identity.subject == subject)


def find(db: peewee.Database, provider: str, subject: str) -> Identity | None:
    """An identity, if it is linked."""
    return Identity.select().where(same(provider, subject)).get_or_none(db)


def of_user(db: peewee.Database, user_id: str, provider: str) -> Identity | None:
    """The account of this provider that a user has linked."""
    mine = (Identity.user == user_id) & (Identity.provider == provider)
    return Identity.select().where(mine).get_or_none(db)


def insert(
    db: peewee.Database, provider: str, person: ProviderProfile, user_id: str, now: float
) -> None:
    """Link somebody to an account.

    Raises:
        peewee.IntegrityError: linked already, or another of this provider is.
    """
    Identity.insert(
        provider=provider,
        subject=person.subject,
        issuer=person.issuer,
        user=user_id,
        email=address_of(person) or "",
        linked_at=now,
        last_used_at=now,
    ).execute(db)


def note_use(db: peewee.Database, identity: Identity, person: ProviderProfile, now: float) -> None:
    """Note that it was used, and the address that it has there now, if it was told."""
    changes = {Identity.last_used_at: now, Identity.email: address_of(person) or identity.email}
    Identity.update(changes).where(same(identity.provider, identity.subject)).execute(db)


def note_verified(db: peewee.Database, user: User, person: ProviderProfile) -> None:
    """Note it where the provider vouches for the account's own address."""
    if not user.email_verified and vouched_address(person) == user.email:
        User.update({User.email_verified: True}).where(User.id == user.id).execute(db)


def unlink(db: peewee.Database, identity: Identity) -> None:
    """Unlink it, and remember that its provider was: whoever has the account there would else be
    joined again by its address, at the next sign-in."""
    row = {"user": identity.user_id, "provider": identity.provider}
    Unlinked.insert(row).on_conflict_ignore().execute(db)
    Identity.delete().where(same(identity.provider, identity.subject)).execute(db)


def was_unlinked(db: peewee.Database, user_id: str, provider: str) -> bool:
    """Whether a user has unlinked this provider, and linked none of its accounts since."""
    mine = (Unlinked.user == user_id) & (Unlinked.provider == provider)
    return Unlinked.select().where(mine).exists(db)


def forget_unlinked(db: peewee.Database, user_id: str, provider: str) -> None:
    """The user links one of its accounts."""
    mine = (Unlinked.user == user_id) & (Unlinked.provider == provider)
    Unlinked.delete().where(mine).execute(db)
