"""Links that set a password: used once over all nodes, and invalid after changes of the account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import peewee
import pytest

from models.account_link import AccountLink
from models.user import User
from services.accounts.password_links import (
    NEW_ACCOUNT_SECONDS,
    RESET_SECONDS,
    PasswordLink,
    PasswordLinks,
)
from services.composition.upkeep import Upkeep
from services.errors import (
    AccountDisabled,
    BadRequest,
    EmailTaken,
    LinkRefused,
    NotFound,
    RateLimited,
    Unauthenticated,
    WeakPassword,
)
from services.opaque import token_hash
from tests.support.parts import DEVICE, ISSUER, Parts, node
from tests.support.server import PASSWORD, address

IP = "192.0.2.9"
NEW = "a heron waits in cold water"


def links(parts: Parts) -> PasswordLinks:
    return parts.services.password_links


def token_of(link: PasswordLink) -> str:
    url, _, token = link.url.reveal().partition("#token=")
    assert url == f"{ISSUER}/set-password"
    return token


async def signed_up(parts: Parts) -> tuple[str, str]:
    """The address and the id of somebody with a password."""
    email = address()
    return email, (await parts.accounts.sign_up(email, PASSWORD, "Ada", DEVICE)).user.id


async def used(parts: Parts, token: str, password: str = NEW, ip: str = IP) -> str:
    return await links(parts).use(token, password, ip)


async def refused(parts: Parts, token: str) -> None:
    with pytest.raises(LinkRefused) as error:
        await used(parts, token)
    assert error.value.public == {}, "nothing of what was wrong"


async def changed(parts: Parts, user_id: str, **values: object) -> None:
    await parts.database.run(lambda db: User.update(values).where(User.id == user_id).execute(db))


def rows(db: peewee.Database) -> list[AccountLink]:
    return list(AccountLink.select().execute(db))


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    async with node(database_url) as one, node(database_url, clock=one.clock) as other:
        yield one, other


@pytest.mark.gen_test
async def test_a_link_sets_a_password_on_another_node_and_ends_every_login_session(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as (one, other):
        email, user_id = await signed_up(one)
        link = await links(one).for_address(f" {email.upper()} ")
        assert link.expires_at == one.clock() + RESET_SECONDS
        assert len(await one.login_sessions.active(user_id)) == 1, "nothing has changed yet"
        assert await used(other, token_of(link)) == user_id
        assert await one.login_sessions.active(user_id) == []
        assert (await one.accounts.log_in(email, NEW, DEVICE)).user.id == user_id
        with pytest.raises(Unauthenticated):
            await one.accounts.log_in(email, PASSWORD, DEVICE)
        await refused(one, token_of(link))


@pytest.mark.gen_test
async def test_a_token_is_stored_nowhere_but_as_a_hash(database_url: str) -> None:
    async with node(database_url) as parts:
        email, _ = await signed_up(parts)
        link = await links(parts).for_address(email)
        (row,) = await parts.database.run(rows)
        assert row.hash == token_hash(token_of(link))
        assert token_of(link) not in repr([vars(row), link])
        assert email not in repr(vars(row))


@pytest.mark.gen_test
async def test_of_parallel_tries_on_two_nodes_one_sets_the_password(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        email, _ = await signed_up(both[0])
        token = token_of(await links(both[0]).for_address(email))
        passwords = [f"{NEW} number {number}" for number in range(20)]
        tries = [used(both[n % 2], token, password) for n, password in enumerate(passwords)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        (good,) = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, str)]
        others = {type(outcome) for n, outcome in enumerate(outcomes) if n != good}
        assert others == {LinkRefused}
        await both[1].accounts.log_in(email, passwords[good], DEVICE)


@pytest.mark.gen_test
async def test_a_password_that_is_too_weak_does_not_use_the_link_up(database_url: str) -> None:
    async with node(database_url) as parts:
        email, user_id = await signed_up(parts)
        token = token_of(await links(parts).for_address(email))
        for weak in ("password1234", email):
            with pytest.raises(WeakPassword):
                await used(parts, token, weak)
        assert await used(parts, token) == user_id


Change = Callable[[Parts, str, str], Awaitable[object]]


async def change_password(parts: Parts, email: str, user_id: str) -> None:
    session = (await parts.accounts.log_in(email, PASSWORD, DEVICE)).claims
    await parts.accounts.change_password(user_id, session.sid, PASSWORD, "quite another one 7")


async def use_another_link(parts: Parts, email: str, user_id: str) -> None:
    await used(parts, token_of(await links(parts).for_address(email)), "quite another one 7")
    del user_id


async def disable(parts: Parts, email: str, user_id: str) -> None:
    await parts.administration.update(user_id, None, True)
    del email


async def disable_and_enable(parts: Parts, email: str, user_id: str) -> None:
    await disable(parts, email, user_id)
    await parts.administration.update(user_id, None, False)


async def delete(parts: Parts, email: str, user_id: str) -> None:
    await parts.administration.delete(user_id)
    del email


async def change_address(parts: Parts, email: str, user_id: str) -> None:
    await changed(parts, user_id, email=f"new.{email}")


async def prove_address(parts: Parts, email: str, user_id: str) -> None:
    await changed(parts, user_id, email_verified=True)
    del email


async def make_administrator(parts: Parts, email: str, user_id: str) -> None:
    await parts.administration.update(user_id, "admin", None)
    del email


async def let_it_end(parts: Parts, email: str, user_id: str) -> None:
    parts.clock.forward(RESET_SECONDS)
    del email, user_id


async def set_the_clock_back(parts: Parts, email: str, user_id: str) -> None:
    parts.clock.forward(-3600)
    del email, user_id


@pytest.mark.gen_test
async def test_changes_of_the_account_invalidate_a_link(database_url: str) -> None:
    async with node(database_url) as parts:
        await signed_up(parts)  # the administrator, who has to stay
        for change in (
            change_password,
            use_another_link,
            disable,
            disable_and_enable,
            delete,
            change_address,
            prove_address,
            make_administrator,
            let_it_end,
            set_the_clock_back,
        ):
            email, user_id = await signed_up(parts)
            token = token_of(await links(parts).for_address(email))
            await change(parts, email, user_id)
            await refused(parts, token)


@pytest.mark.gen_test
async def test_what_does_not_change_the_account_leaves_a_link_as_it_is(database_url: str) -> None:
    async with node(database_url) as parts:
        await signed_up(parts)
        email, user_id = await signed_up(parts)
        tokens = [token_of(await links(parts).for_address(email)) for _ in range(2)]
        await parts.accounts.log_in(email, PASSWORD, DEVICE)
        await parts.administration.disconnect(user_id)
        parts.clock.forward(RESET_SECONDS - 1)
        assert await used(parts, tokens[0]) == user_id
        await refused(parts, tokens[1])


@pytest.mark.gen_test
async def test_invalid_links_are_counted_by_address_and_a_valid_one_is_accepted(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        email, user_id = await signed_up(parts)
        good, old = [token_of(await links(parts).for_address(email)) for _ in range(2)]
        forged = [f"{old[:-1]}{'A' if old[-1] != 'A' else 'B'}", "", "x" * 5000, "é\ud800"]
        tries = [used(parts, forged[n % 4]) for n in range(120)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(outcome, LinkRefused) for outcome in outcomes) == 100
        waits = {o.retry_after for o in outcomes if isinstance(o, RateLimited)}
        assert waits == {3600}
        assert await used(parts, good) == user_id
        with pytest.raises(RateLimited):
            await used(parts, old)
        with pytest.raises(LinkRefused):
            await used(parts, old, ip="192.0.2.10")


@pytest.mark.gen_test
async def test_an_account_is_opened_without_a_password_and_gets_one_within_a_week(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        email = address()
        link = await links(parts).open_account(f" {email.upper()}", " Grace ")
        assert (link.user.email, link.user.name, link.user.role) == (email, "Grace", "user")
        assert link.expires_at == parts.clock() + NEW_ACCOUNT_SECONDS
        for password in ("", PASSWORD):
            with pytest.raises(Unauthenticated):
                await parts.accounts.log_in(email, password, DEVICE)
        parts.clock.forward(NEW_ACCOUNT_SECONDS - 1)
        assert await used(parts, token_of(link)) == link.user.id
        assert (await parts.accounts.log_in(email, NEW, DEVICE)).user.role == "user"


@pytest.mark.gen_test
async def test_an_address_that_is_accepted_or_none_opens_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        email, _ = await signed_up(parts)
        with pytest.raises(EmailTaken):
            await links(parts).open_account(email.upper(), "Grace")
        for wrong in (("x", "Grace"), (address(), " "), (address(), "\u202e")):
            with pytest.raises(BadRequest):
                await links(parts).open_account(*wrong)
        tries = [links(parts).open_account(f"one.{email}", "Grace") for _ in range(10)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(outcome, PasswordLink) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 9
        assert len(await parts.database.run(rows)) == 1


@pytest.mark.gen_test
async def test_there_is_no_link_to_an_account_that_is_gone_or_disabled(database_url: str) -> None:
    async with node(database_url) as parts:
        await signed_up(parts)
        email, user_id = await signed_up(parts)
        with pytest.raises(NotFound):
            await links(parts).for_address(address())
        await parts.administration.update(user_id, None, True)
        with pytest.raises(AccountDisabled):
            await links(parts).for_address(email)


@pytest.mark.gen_test
async def test_links_that_have_ended_are_purged(database_url: str) -> None:
    async with node(database_url) as parts:
        email, _ = await signed_up(parts)
        await links(parts).for_address(email)
        await links(parts).open_account(address(), "Grace")
        parts.clock.forward(RESET_SECONDS + 1)
        await Upkeep(parts.database, parts.clock).purge()
        (left,) = await parts.database.run(rows)
        assert left.expires_at > parts.clock()
