"""Rows of linked accounts, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peewee

from models.identity import Identity, Unlinked
from models.user import User
from services.accounts import link_rows
from services.oauth.userinfo import ProviderProfile, address_of, verified_address
from services.settings.providers import OAuthProvider


def same(provider: str, subject: str) -> peewee.Expression:
    """The condition for one identity."""
    return (Identity.provider == provider) & (Identity.subject == subject)


def find(db: peewee.Database, provider: str, subject: str) -> Identity | None:
    """The linked identity, or None."""
    return Identity.select().where(same(provider, subject)).get_or_none(db)


def of_user(db: peewee.Database, user_id: str, provider: str) -> Identity | None:
    """The account of this provider that a user has linked."""
    mine = (Identity.user == user_id) & (Identity.provider == provider)
    return Identity.select().where(mine).get_or_none(db)


def insert(
    db: peewee.Database,
    provider: str,
    profile: ProviderProfile,
    user_id: str,
    now: float,
    address: str | None = None,
) -> None:
    """Link an identity to an account.

    Args:
        address: what is recorded as its address there; None for the one in the profile.

    Raises:
        peewee.IntegrityError: linked already, or another of this provider is.
    """
    Identity.insert(
        provider=provider,
        subject=profile.subject,
        issuer=profile.issuer,
        user=user_id,
        email=(address_of(profile) or "") if address is None else address,
        linked_at=now,
        last_used_at=now,
    ).execute(db)


def address_to_keep(user: User, profile: ProviderProfile, before: str = "") -> str:
    """The address that is recorded with an identity of an account: its current one there. But the
    account's own is recorded only if the provider has verified it. Otherwise a user who links an
    identity that only claims it could move the account to another address by changing the claim:
    see `follow_address`.

    Args:
        before: the one recorded so far.
    """
    address = address_of(profile)
    if address is None or (address == user.email and verified_address(profile) is None):
        return before
    return address


def record_use(
    db: peewee.Database, identity: Identity, user: User, profile: ProviderProfile, now: float
) -> None:
    """Record its use, its current address there, if the provider sent one, and the issuer: the
    issuer of before, or the one that it has become."""
    changes = {
        Identity.last_used_at: now,
        Identity.email: address_to_keep(user, profile, identity.email),
        Identity.issuer: profile.issuer,
    }
    Identity.update(changes).where(same(identity.provider, identity.subject)).execute(db)


def is_of(identity: Identity, profile: ProviderProfile, provider: OAuthProvider) -> bool:
    """Whether it belongs to this profile, and not to the same subject at another issuer:
    the name in the settings may have come to mean another provider."""
    return identity.issuer in (profile.issuer, provider.former_issuer)


def follow_address(
    db: peewee.Database,
    user: User,
    identity: Identity,
    profile: ProviderProfile,
    takes: Callable[[str], bool],
    now: float,
) -> bool:
    """Update an account's address if it has changed at the provider that it came from. Returns
    whether it has changed.

    Otherwise the old address would stay verified here, and its next owner would be joined to the
    account. If the new address cannot be used, the old one is no longer verified.

    Args:
        user: locked.
        identity: as it was before this sign-in.
        takes: whether accounts may have an address (EMAIL_DOMAINS).
        now: epoch seconds.
    """
    address, vouched = address_of(profile), verified_address(profile)
    came_from_there = identity.email == user.email
    if address is None or address == user.email or not came_from_there:
        return False
    if not user.email_verified and user.password_hash is not None:
        return False  # the user signs in with it, but it is not verified
    if vouched is None or not takes(vouched) or _is_anothers(db, vouched, user, now):
        changes: dict[Any, object] = {
            User.email_verified: False,
            User.email_given_up: user.email_verified or user.email_given_up,
        }
        user.email_verified, user.email_given_up = False, bool(changes[User.email_given_up])
    else:
        changes = {User.email: vouched, User.email_verified: True, User.email_given_up: False}
        user.email, user.email_verified, user.email_given_up = vouched, True, False
    User.update(changes).where(User.id == user.id).execute(db)
    return User.email in changes


def _is_anothers(db: peewee.Database, address: str, user: User, now: float) -> bool:
    """Whether an address is that of an account, or may be brought back to one."""
    taken = User.select().where(User.email == address).exists(db)
    return bool(taken) or link_rows.is_reserved(db, address, now, but=user.id)


def give_up_address(db: peewee.Database, provider: str, profile: ProviderProfile) -> None:
    """Another user has, at this provider, the address that an account was created with: it is no
    longer certain that the account's user owns it."""
    address = verified_address(profile)
    user = User.select().where(User.email == (address or "")).get_or_none(db)
    linked = None if user is None else of_user(db, user.id, provider)
    if user is None or linked is None or linked.email != address:
        return
    if (linked.subject, linked.issuer) != (profile.subject, profile.issuer):
        changes = {User.email_verified: False, User.email_given_up: True}
        User.update(changes).where(User.id == user.id).execute(db)


def record_verified(db: peewee.Database, user: User, profile: ProviderProfile) -> None:
    """Record that the provider has verified the account's own address."""
    if not user.email_verified and verified_address(profile) == user.email:
        changes = {User.email_verified: True, User.email_given_up: False}
        User.update(changes).where(User.id == user.id).execute(db)


def unlink(db: peewee.Database, identity: Identity) -> None:
    """Unlink an identity, and record that its provider was unlinked. Otherwise the next sign-in
    would link it again by its e-mail address."""
    row = {"user": identity.user_id, "provider": identity.provider}
    Unlinked.insert(row).on_conflict_ignore().execute(db)
    Identity.delete().where(same(identity.provider, identity.subject)).execute(db)


def was_unlinked(db: peewee.Database, user_id: str, provider: str) -> bool:
    """Whether a user has unlinked this provider, and linked none of its accounts since."""
    mine = (Unlinked.user == user_id) & (Unlinked.provider == provider)
    return Unlinked.select().where(mine).exists(db)


def forget_unlinked(db: peewee.Database, user_id: str, provider: str) -> None:
    """Delete that record, because the user links an account of the provider."""
    mine = (Unlinked.user == user_id) & (Unlinked.provider == provider)
    Unlinked.delete().where(mine).execute(db)
