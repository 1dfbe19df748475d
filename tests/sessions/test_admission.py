"""Admission: the usual join, the order of its checks, and roles."""

from __future__ import annotations

import msgspec
import pytest

from services.errors import TokenExpired, Unauthenticated
from services.secret import Secret
from services.sessions.login_cache import login_key
from services.sessions.tokens import Tokens
from tests.sessions.joins import Queries, database_joins, join, logout, queries, refused
from tests.support.parts import ACCESS_TTL, database_away, node
from tests.support.redis import RealRedis, redis_server

__all__ = ["queries", "redis_server"]

# ---- the usual join ------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_usual_join_is_one_round_trip_of_one_command_and_no_query(
    database_url: str, redis_server: RealRedis, queries: Queries
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in(await parts.user("Ada"))
        queries.begin()
        await parts.admission.login_states.of(login.claims)
        assert queries.count > 0, "the counter counts"
        queries.begin()
        parts.store.groups.clear()
        before = redis_commands(redis_server)
        assert await join(parts, login) == "Ada"
        assert [[command[0] for command in group] for group in parts.store.groups] == [["MGET"]]
        assert redis_commands(redis_server) - before == 1
        assert queries.count == 0


def redis_commands(redis: RealRedis) -> int:
    """How many commands the server has carried out, pings and questions like this apart."""
    text = redis.ask("INFO", "commandstats").decode()
    lines = (line.partition(":calls=") for line in text.splitlines())
    own = ("cmdstat_info", "cmdstat_ping")
    return sum(int(rest.split(",")[0]) for name, _, rest in lines if rest and name not in own)


@pytest.mark.gen_test
async def test_claims_are_resolved_to_an_identity(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.signed_in(await parts.user("Root", "admin"))
        identity = await parts.admission.identify(root.claims)
        assert (identity.user_id, identity.name, identity.is_admin) == (root.user.id, "Root", True)
        ada = await parts.signed_in()
        assert not (await parts.admission.identify(ada.claims)).is_admin


@pytest.mark.gen_test
async def test_a_ticket_is_valid_like_its_token_once(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        ticket = (await parts.tickets.issue(login.claims)).reveal()
        claims = await parts.admission.claims_of(ticket)
        assert claims == login.claims
        assert (await parts.admission.identify(claims)).user_id == login.user.id
        with pytest.raises(Unauthenticated):
            await parts.admission.claims_of(ticket)
        another = (await parts.tickets.issue(login.claims)).reveal()
        assert await parts.admission.redeem(another) == login.claims
        with pytest.raises(Unauthenticated):
            parts.admission.verify((await parts.tickets.issue(login.claims)).reveal())


# ---- the order of the checks ---------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_forged_one_is_refused_without_a_look_up(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        foreign = Tokens(
            [Secret("another secret, of somebody else entirely")],
            "http://usher.test",
            clock=parts.clock,
        )
        claims = login.claims
        token, _ = foreign.issue(claims.sub, claims.sid, "user", login.session_expires_at)
        parts.store.groups.clear()
        for credential in (token, login.access_token.reveal()[:-1], "a.b.c", ""):
            with pytest.raises(Unauthenticated) as caught:
                await parts.admission.claims_of(credential)
            assert not isinstance(caught.value, TokenExpired)
        assert parts.store.groups == []


@pytest.mark.gen_test
async def test_expiry_is_reported_without_a_look_up_even_for_a_revoked_token(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await logout(parts, login)
        parts.clock.forward(ACCESS_TTL)
        parts.store.groups.clear()
        with pytest.raises(TokenExpired):
            await parts.admission.claims_of(login.access_token.reveal())
        assert parts.store.groups == []


@pytest.mark.gen_test
async def test_what_is_known_here_to_be_revoked_is_refused_before_redis_is_asked(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await logout(parts, login)
        parts.store.groups.clear()
        await refused(parts, login)
        assert parts.store.groups == []


@pytest.mark.gen_test
async def test_a_revocation_in_redis_is_refused_before_the_database_is_asked(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as here, node(database_url, redis_server) as there:
        login = await here.signed_in()
        await logout(here, login)
        assert not there.revocations.names(login.claims), "only Redis has it"
        await database_away(there)
        await refused(there, login)
        assert database_joins(there, "unknown_to_redis") == 0


@pytest.mark.gen_test
async def test_a_revocation_that_arrives_during_the_question_counts(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await parts.store.call(("DEL", login_key(login.user.id, login.claims.sid)))
        look = parts.admission.login_states.of

        class Slow:
            """The database's answer, and a logout that is acknowledged just behind it."""

            async def of(self, claims: object) -> object:
                state = await look(login.claims)
                await logout(parts, login)
                return state

        parts.admission.login_states = Slow()  # type: ignore[assignment]
        await refused(parts, login)


@pytest.mark.gen_test
async def test_a_token_that_expires_during_the_question_is_too_old(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        claims = parts.admission.verify(login.access_token.reveal())
        parts.clock.forward(ACCESS_TTL)
        with pytest.raises(TokenExpired):
            await parts.admission.identify(claims)


@pytest.mark.gen_test
async def test_a_ticket_of_a_token_that_expired_meanwhile_opens_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        parts.clock.forward(ACCESS_TTL - 1)
        ticket = (await parts.tickets.issue(login.claims)).reveal()
        parts.clock.forward(1)
        claims = await parts.admission.redeem(ticket)
        with pytest.raises(TokenExpired):
            await parts.admission.identify(claims)


@pytest.mark.gen_test
async def test_claims_of_another_user_or_session_are_nobodys(database_url: str) -> None:
    async with node(database_url) as parts:
        ada, bob = await parts.signed_in(), await parts.signed_in()
        for forged in (
            msgspec.structs.replace(ada.claims, sub=bob.user.id),
            msgspec.structs.replace(ada.claims, sid=bob.claims.sid),
            msgspec.structs.replace(ada.claims, sid="none"),
            msgspec.structs.replace(ada.claims, role="admin"),
        ):
            with pytest.raises(Unauthenticated):
                await parts.admission.identify(forged)


# ---- roles ---------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_token_of_the_old_role_is_refused_and_one_of_the_new_is_accepted(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await parts.user("Root", "admin")
        user = await parts.user("Ada", "admin")
        login = await parts.signed_in(user)
        parts.clock.forward(60)
        await parts.administration.update(user, "user", None)
        parts.clock.forward(1)
        await refused(parts, login)
        assert database_joins(parts, "role_or_access_changed") == 1, (
            "what Redis says is older than that"
        )
        newer = await parts.refresh.rotation.refresh(login.refresh_token.reveal())
        assert await join(parts, newer) == "Ada"
        await refused(parts, login)
        parts.clock.forward(60)
        await join(parts, newer)
        asked = database_joins(parts, "role_or_access_changed")
        await join(parts, newer)
        assert database_joins(parts, "role_or_access_changed") == asked, "now Redis says it anew"
