"""An account with somebody else's address, and the owner of the address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.account_link import AccountLink
from models.identity import Identity
from models.known_network import KnownNetwork
from models.oauth_token import OAuthToken
from models.passkey import Passkey
from models.totp_secret import RecoveryCode, TotpSecret
from models.user import User
from services.accounts import account_rows
from services.audit.trail import AuditRow
from services.errors import Forbidden, InvitationRefused, LinkRefused, Unauthenticated
from services.oauth.errors import Reason
from services.registration.handovers import Handover
from services.websocket.protocol import CloseCode
from tests.registration.sign_ups import (
    by_password,
    by_provider,
    by_provider_refused,
    installation,
    invited,
)
from tests.support.parts import DEVICE, Parts, open_socket
from tests.support.redis import until
from tests.support.server import PASSWORD

EMAIL = "owner@example.org"
FACTORS: tuple[Any, ...] = (Passkey, RecoveryCode, TotpSecret)


@asynccontextmanager
async def squatted(database_url: str) -> AsyncIterator[tuple[Parts, Parts, Any]]:
    """Two nodes, an administrator, and an account with somebody else's address."""
    async with installation(database_url) as (one, other):
        await by_password(one)
        yield one, other, await by_password(one, EMAIL)


async def users(parts: Parts) -> dict[str, User]:
    found = await parts.database.run(lambda db: list(User.select().execute(db)))
    return {user.id: user for user in found}


async def left_of(parts: Parts, user_id: str) -> dict[str, int]:
    def work(db: peewee.Database) -> dict[str, int]:
        tables: tuple[Any, ...] = (AccountLink, Identity, KnownNetwork, OAuthToken, *FACTORS)
        return {t.__name__: t.select().where(t.user == user_id).count(db) for t in tables}

    return await parts.database.run(work)


def insert_factors(db: peewee.Database, user_id: str) -> None:
    """An authenticator app in use, a recovery code, and a passkey."""
    TotpSecret.insert(user=user_id, secret="sealed", created_at=1.0, confirmed_at=1.0).execute(db)
    RecoveryCode.insert(hash="h", user=user_id).execute(db)
    Passkey.insert(
        id="p", credential_id="c", user=user_id, name="Key", public_key="k", created_at=1.0
    ).execute(db)


async def audited(parts: Parts, kind: str) -> list[AuditRow]:
    await parts.services.audit.write_rows()
    return await parts.services.audit.page(None, 10, kind=kind)


@pytest.mark.gen_test
async def test_the_owner_of_the_address_gets_the_account_and_the_squatter_loses_access(
    database_url: str,
) -> None:
    async with squatted(database_url) as (one, other, squatter):
        user_id = squatter.user.id
        elsewhere = await by_provider(one, "me@example.org", subject="squatter")
        await one.administration.delete(elsewhere.user.id)
        await one.administration.update(user_id, "admin", None)
        _, key = await one.services.api_keys.create("mine", ["read"], user_id)
        invitation = await invited(one, user_id)
        await one.administration.update(user_id, "user", None)
        link = await one.services.password_links.for_address(EMAIL)
        channel = await one.channels.create(user_id, "a room", private=True)
        second = await one.accounts.log_in(EMAIL, PASSWORD, DEVICE)
        await other.revocations.sweep()
        here = await open_socket(one, second)
        there = await open_socket(other, await one.accounts.log_in(EMAIL, PASSWORD, DEVICE))

        await one.database.run(insert_factors, user_id)

        owner = await by_provider(one, EMAIL, subject="owner")

        assert owner.user.id == user_id
        assert await here.close_code() == CloseCode.SESSION_REVOKED
        await other.revocations.sweep()
        assert await there.close_code() == CloseCode.SESSION_REVOKED
        with pytest.raises(Unauthenticated):
            await one.accounts.log_in(EMAIL, PASSWORD, DEVICE)
        with pytest.raises(Unauthenticated):
            await one.refresh.rotation.refresh(second.refresh_token.reveal())
        token = link.url.reveal().partition("#token=")[2]
        with pytest.raises(LinkRefused):
            await one.services.password_links.use(token, PASSWORD, DEVICE.ip)
        active = await one.login_sessions.active(user_id)
        assert [session.id for session in active] == [owner.claims.sid]
        assert await left_of(one, user_id) == {
            "AccountLink": 0,
            "Identity": 1,
            "KnownNetwork": 1,
            "OAuthToken": 1,
            **{table.__name__: 0 for table in FACTORS},
        }
        user = (await users(one))[user_id]
        assert (user.password_hash, bool(user.email_verified)) == (None, True)
        assert (await one.channels.get(user_id, channel.id)).owner_id == user_id
        # What came of rights that the account once had does not come back with them.
        await one.administration.update(user_id, "admin", None)
        with pytest.raises((Unauthenticated, Forbidden)):
            await one.services.api_keys.check(key.reveal(), "read")
        with pytest.raises(InvitationRefused):
            await by_password(one, invitation=invitation)
        (event,) = await audited(one, "account.handed_over")
        assert (event.subject, event.reason) == (user_id, "oauth:idp")


@pytest.mark.gen_test
async def test_it_happens_once_however_many_prove_it_at_once(database_url: str) -> None:
    async with squatted(database_url) as (one, other, squatter):
        outcomes = await asyncio.gather(
            *(by_provider((one, other)[n % 2], EMAIL, subject="owner") for n in range(10))
        )
        assert {found.user.id for found in outcomes} == {squatter.user.id}
        active = await one.login_sessions.active(squatter.user.id)
        assert len(active) == 10, "none ended another's"
        events = await audited(one, "account.handed_over")
        events += await audited(other, "account.handed_over")
        assert len({event.at for event in events}) == 1


@pytest.mark.gen_test
async def test_an_unverified_address_of_a_provider_grants_nothing(
    database_url: str,
) -> None:
    async with squatted(database_url) as (one, _, squatter):
        await by_provider_refused(one, Reason.NO_ACCOUNT, EMAIL, verified=False)
        assert (await one.accounts.log_in(EMAIL, PASSWORD, DEVICE)).user.id == squatter.user.id


@pytest.mark.gen_test
async def test_a_squatter_by_a_provider_that_does_not_vouch_is_put_out_as_well(
    database_url: str,
) -> None:
    async with installation(database_url) as (one, _):
        await by_password(one)
        squatter = await by_provider(one, EMAIL, verified=False, subject="squatter")
        owner = await by_provider(one, EMAIL, subject="owner")
        assert owner.user.id == squatter.user.id
        await by_provider_refused(one, Reason.NO_ACCOUNT, EMAIL, verified=False, subject="squatter")


@pytest.mark.gen_test
@pytest.mark.parametrize("state", ["admin", "disabled", "verified", "given_up"])
async def test_other_accounts_are_not_handed_over(database_url: str, state: str) -> None:
    async with squatted(database_url) as (one, _, squatter):
        changes: dict[str, dict[str, Any]] = {
            "admin": {"role": "admin"},
            "disabled": {"disabled_at": 1.0},
            "verified": {"email_verified": True},
            "given_up": {"email_given_up": True},
        }

        def change(db: peewee.Database) -> Handover | None:
            User.update(changes[state]).where(User.id == squatter.user.id).execute(db)
            user = account_rows.for_change(db, squatter.user.id)
            return one.registration.handovers.prove(db, user, "mail")

        assert await one.database.run(change) is None
        user = (await users(one))[squatter.user.id]
        assert user.password_hash is not None
        assert len(await one.login_sessions.active(squatter.user.id)) == 1


@pytest.mark.gen_test
async def test_other_credentials_are_removed_in_the_same_transaction(
    database_url: str,
) -> None:
    async with squatted(database_url) as (one, _, squatter):
        called: list[tuple[str, str]] = []

        def remove(db: peewee.Database, user_id: str) -> None:
            assert User.select().where(User.id == user_id).exists(db)
            called.append(("within", user_id))

        one.registration.handovers.on_handover(remove)
        await by_provider(one, EMAIL)
        await until(lambda: bool(called))
        assert called == [("within", squatter.user.id)]
