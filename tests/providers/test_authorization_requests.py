"""Authorization requests: bound to browser and provider, limited in time, used once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from models.used_once import UsedOnce
from services.errors import DatabaseUnavailable
from services.oauth.errors import Reason, SignInRefused
from services.oauth.id_tokens import CLOCK_SKEW_SECONDS
from services.providers.authorization_requests import (
    AUTHORIZATION_REQUEST_SECONDS,
    MAX_SEALED_LENGTH,
    AuthorizationRequest,
    AuthorizationRequests,
    Link,
    request_key,
)
from services.secret import Secret
from services.storage.database import Database
from services.storage.encryption import Encryption, generate_key
from tests.support.databases import opened
from tests.support.parts import Clock

KEY, OLD = generate_key(), generate_key()


def attempts_of(database: Database, clock: Clock, *keys: Secret) -> AuthorizationRequests:
    return AuthorizationRequests(Encryption(keys or (KEY,)), database, clock)


async def refused(attempts: AuthorizationRequests, sealed: str, provider: str, state: str) -> str:
    with pytest.raises(SignInRefused) as caught:
        await attempts.take(sealed, provider, state)
    assert caught.value.reason is Reason.STALE
    return caught.value.evidence


def resealed(attempt: AuthorizationRequest, key: Secret = KEY, **changes: Any) -> str:
    """An attempt that holder of the key sealed, with changes."""
    changed = {**msgspec.to_builtins(attempt), **changes}
    return Encryption((key,)).encrypt(msgspec.json.encode(changed))


@pytest.mark.gen_test
async def test_an_attempt_comes_back_as_it_began(database_url: str) -> None:
    clock = Clock()
    async with opened(database_url) as database:
        attempts = attempts_of(database, clock)
        for link in (None, Link("user", "session")):
            begun, sealed = attempts.begin("idp", "/next?a=1#b", link)
            found = await attempts.take(sealed.reveal(), "idp", begun.start.state)
            assert found == begun
            assert (found.provider, found.next, found.link) == ("idp", "/next?a=1#b", link)
            assert found.expires_at == clock() + AUTHORIZATION_REQUEST_SECONDS


@pytest.mark.gen_test
async def test_no_two_attempts_share_a_value_and_none_is_short(database_url: str) -> None:
    async with opened(database_url) as database:
        attempts = attempts_of(database, Clock())
        starts = [attempts.begin("idp", "/", None)[0].start for _ in range(50)]
        values = [value for start in starts for value in start]
        assert len(set(values)) == 150
        assert min(map(len, values)) >= 43


@pytest.mark.gen_test
async def test_it_comes_back_on_any_node_and_after_a_new_key_came_first(database_url: str) -> None:
    clock = Clock()
    async with opened(database_url) as one, opened(database_url) as other:
        begun, sealed = attempts_of(one, clock, OLD).begin("idp", "/", None)
        there = attempts_of(other, clock, KEY, OLD)
        assert await there.take(sealed.reveal(), "idp", begun.start.state) == begun


@pytest.mark.gen_test
async def test_of_fifty_concurrent_exchanges_on_two_nodes_one_succeeds(database_url: str) -> None:
    clock = Clock()
    async with opened(database_url) as one, opened(database_url) as other:
        nodes = attempts_of(one, clock), attempts_of(other, clock)
        begun, sealed = nodes[0].begin("idp", "/", None)
        takes = [node.take(sealed.reveal(), "idp", begun.start.state) for node in nodes * 25]
        outcomes = await asyncio.gather(*takes, return_exceptions=True)
        assert outcomes.count(begun) == 1
        late = [outcome for outcome in outcomes if isinstance(outcome, SignInRefused)]
        assert {outcome.evidence for outcome in late} == {"callback: state already used"}
        assert len(late) == 49


@pytest.mark.gen_test
async def test_it_is_used_once_until_it_would_be_too_late_anyway(database_url: str) -> None:
    clock = Clock()
    async with opened(database_url) as database:
        attempts = attempts_of(database, clock)
        begun, sealed = attempts.begin("idp", "/", None)
        await attempts.take(sealed.reveal(), "idp", begun.start.state)
        until = await database.run(lambda db: UsedOnce.select().get(db).expires_at)
        assert until >= begun.expires_at + CLOCK_SKEW_SECONDS, "whichever node's clock is behind"
        clock.forward(AUTHORIZATION_REQUEST_SECONDS - 1)
        assert "already used" in await refused(attempts, sealed.reveal(), "idp", begun.start.state)


@pytest.mark.gen_test
async def test_an_attempt_has_ended_after_ten_minutes(database_url: str) -> None:
    clock = Clock()
    async with opened(database_url) as database:
        attempts = attempts_of(database, clock)
        begun, sealed = attempts.begin("idp", "/", None)
        clock.forward(AUTHORIZATION_REQUEST_SECONDS)
        assert "expired" in await refused(attempts, sealed.reveal(), "idp", begun.start.state)


@pytest.mark.gen_test
async def test_another_browser_state_or_provider_is_refused(
    database_url: str,
) -> None:
    async with opened(database_url) as database:
        attempts = attempts_of(database, Clock())
        mine, sealed = attempts.begin("idp", "/", None)
        theirs, sealed_theirs = attempts.begin("idp", "/", None)
        kept = sealed.reveal()
        for wrong in (
            ("", "idp", mine.start.state),
            (sealed_theirs.reveal(), "idp", mine.start.state),
            (kept, "idp", theirs.start.state),
            (kept, "idp", ""),
            (kept, "idp", mine.start.state + "x"),
            (kept, "idp", mine.start.state[:-1]),
            (kept, "idp", mine.start.nonce),
            (kept, "idp", "ü\ud800\x00"),
            (kept, "other", mine.start.state),
            (kept, "IDP", mine.start.state),
        ):
            await refused(attempts, *wrong)
        assert await attempts.take(kept, "idp", mine.start.state) == mine, "nothing was used up"


@pytest.mark.gen_test
async def test_what_is_no_sealed_attempt_of_ours_is_refused(database_url: str) -> None:
    async with opened(database_url) as database:
        attempts = attempts_of(database, Clock())
        begun, sealed = attempts.begin("idp", "/", None)
        kept, state = sealed.reveal(), begun.start.state
        encryption = Encryption((KEY,))
        for wrong in (
            "x",
            kept[:-4],
            kept[:60] + ("A" if kept[60] != "A" else "B") + kept[61:],
            "ü",
            "\ud800",
            "A" * (MAX_SEALED_LENGTH + 1),
            resealed(begun, generate_key()),
            resealed(begun, purpose="session"),
            resealed(begun, purpose=""),
            encryption.encrypt("an access token of a provider"),
            encryption.encrypt("{}"),
            encryption.encrypt(b"\xff"),
            encryption.encrypt('{"purpose": "oauth-sign-in"}'),
            resealed(begun, start="state"),
            resealed(begun, expires_at="never"),
            resealed(begun, provider=None),
        ):
            assert "no authorization request" in await refused(attempts, wrong, "idp", state)
        assert await attempts.take(kept, "idp", state) == begun
        longer = resealed(begun, expires_at=begun.expires_at + 1)
        assert "already used" in await refused(attempts, longer, "idp", state)


@pytest.mark.gen_test
async def test_the_longest_return_url_fits_into_a_cookie(database_url: str) -> None:
    async with opened(database_url) as database:
        attempts = attempts_of(database, Clock())
        link = Link("u" * 22, "s" * 22)
        begun, sealed = attempts.begin("p" * 32, "/" + '"' * 999, link)
        assert len(sealed.reveal()) <= 3800  # RFC 6265 section 6.1: 4096 with name and attributes
        found = await attempts.take(sealed.reveal(), "p" * 32, begun.start.state)
        assert found.next == begun.next


@pytest.mark.gen_test
async def test_the_cookie_reveals_nothing_to_the_browser(database_url: str) -> None:
    async with opened(database_url) as database:
        begun, sealed = attempts_of(database, Clock()).begin("idp", "/secret-place", None)
        assert not any(value in sealed.reveal() for value in begun.start)
        assert "secret-place" not in sealed.reveal()
        assert sealed.reveal() not in f"{sealed!r}{sealed}"


@pytest.mark.gen_test
async def test_beginning_leaves_nothing_in_the_database(database_url: str) -> None:
    async with opened(database_url) as database:
        attempts = attempts_of(database, Clock())
        for _ in range(20):
            attempts.begin("idp", "/", None)
        assert await database.run(lambda db: UsedOnce.select().count(db)) == 0


@pytest.mark.gen_test
async def test_without_the_database_no_join_is_admitted(database_url: str) -> None:
    async with opened(database_url) as database:
        attempts = attempts_of(database, Clock())
        begun, sealed = attempts.begin("idp", "/", None)
        await database.close()
        with pytest.raises(DatabaseUnavailable):
            await attempts.take(sealed.reveal(), "idp", begun.start.state)


def test_several_attempts_of_one_browser_have_different_short_names() -> None:
    names = {request_key(f"state-{number}") for number in range(1000)}
    assert len(names) == 1000
    assert all(len(name) == 12 and name.isalnum() for name in names)
    assert request_key("\ud800") != request_key("")
