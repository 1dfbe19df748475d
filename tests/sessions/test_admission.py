"""Admission: the order of its checks, its look-ups, and its errors without a store."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec
import peewee
import pytest

from models.user import User
from services.errors import (
    DatabaseUnavailable,
    StoreUnavailable,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)
from services.secret import Secret
from services.sessions.login_cache import login_key
from services.sessions.session_views import SignedIn
from services.sessions.tokens import Tokens
from tests.support.parts import (
    ACCESS_TTL,
    Parts,
    database_away,
    node,
    redis_away,
    redis_back,
)
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]


class Queries(logging.Handler):
    """The SQL statements that Peewee executes, as it logs them itself: from `begin` on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.count = 0

    def begin(self) -> None:
        """Count from 0. Only once the database is open, which quietens Peewee."""
        logging.getLogger("peewee").setLevel(logging.DEBUG)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


@pytest.fixture
def queries() -> Iterator[Queries]:
    logger, handler = logging.getLogger("peewee"), Queries()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.INFO)


async def join(parts: Parts, login: SignedIn) -> str:
    """A whole check of an access token; returns the name it belongs to."""
    claims = await parts.admission.claims_of(login.access_token.reveal())
    return (await parts.admission.identify(claims)).name


async def refused(parts: Parts, login: SignedIn) -> None:
    with pytest.raises(Unauthenticated):
        await join(parts, login)


async def logout(parts: Parts, login: SignedIn) -> None:
    claims = login.claims
    await parts.session_ends.end(claims.sub, claims.sid, "logout", claims.jti)


def disable(db: peewee.Database, user_id: str) -> None:
    User.update(disabled_at=1.0).where(User.id == user_id).execute(db)


def database_joins(parts: Parts, cause: str) -> float:
    return parts.count("usher_joins_by_database_total", cause=cause)


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


# ---- Redis does not know -------------------------------------------------------------------


@pytest.mark.gen_test
async def test_when_redis_was_emptied_the_database_decides_and_redis_learns_it(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login, over = await parts.signed_in(), await parts.signed_in()
        await logout(parts, over)
        redis_server.ask("FLUSHALL")
        await join(parts, login)
        assert database_joins(parts, "unknown_to_redis") == 1
        await join(parts, login)
        assert database_joins(parts, "unknown_to_redis") == 1
        async with node(database_url, redis_server) as restarted:
            await refused(restarted, over)
            assert database_joins(restarted, "unknown_to_redis") == 1


@pytest.mark.gen_test
async def test_a_disabled_or_deleted_user_is_refused_by_the_database(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        off, gone = await parts.signed_in(), await parts.signed_in()
        await parts.database.run(disable, off.user.id)
        await parts.database.run(
            lambda db: User.delete().where(User.id == gone.user.id).execute(db)
        )
        redis_server.ask("FLUSHALL")
        await refused(parts, off)
        await refused(parts, gone)


# ---- Redis or the database away ------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_redis_the_database_decides(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login, over = await parts.signed_in(), await parts.signed_in()
        await redis_away(parts, redis_server)
        await logout(parts, over)
        await join(parts, login)
        await refused(parts, over)
        assert database_joins(parts, "redis_away") == 1
        async with node(database_url) as restarted:
            await refused(restarted, over)
            await join(restarted, login)


@pytest.mark.gen_test
async def test_without_the_database_a_usual_join_continues_and_an_unknown_one_waits(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login, unknown = await parts.signed_in(), await parts.signed_in()
        await parts.store.call(("DEL", login_key(unknown.user.id, unknown.claims.sid)))
        await database_away(parts)
        await join(parts, login)
        with pytest.raises(DatabaseUnavailable):
            await join(parts, unknown)


@pytest.mark.gen_test
async def test_without_both_stores_joins_are_unavailable_and_not_unauthenticated(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        ticket = (await parts.tickets.issue(login.claims)).reveal()
        await redis_away(parts, redis_server)
        await database_away(parts)
        with pytest.raises(Unavailable):
            await join(parts, login)
        with pytest.raises(StoreUnavailable):
            await parts.admission.claims_of(ticket)
        with pytest.raises(Unauthenticated):
            await parts.admission.claims_of("a.b.c")


@pytest.mark.gen_test
async def test_nothing_revoked_comes_back_in_after_redis_was_away(
    database_url: str, redis_server: RealRedis
) -> None:
    async with (
        node(database_url, redis_server) as here,
        node(database_url, redis_server, here.clock) as there,
    ):
        login = await here.signed_in()
        await join(there, login)
        (record,) = await there.store.call(("GET", login_key(login.user.id, login.claims.sid)))
        await redis_away(here, redis_server, there)
        await logout(here, login)
        await refused(here, login)
        await redis_back(here, redis_server, there)
        # As if Redis had kept its data: it never heard of the logout.
        await here.store.call(("SET", login_key(login.user.id, login.claims.sid), record))
        await refused(here, login)
        await there.revocations.sweep()
        await refused(there, login)
        async with node(database_url, redis_server, here.clock) as restarted:
            await restarted.revocations.sweep()
            await refused(restarted, login)
