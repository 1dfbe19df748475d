"""Which actions cause events, and that failed ones cause none."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, get_args

import msgspec
import peewee
import pytest

from models.webhook import WebhookDelivery as D
from services.commands.users import UserCommands
from services.errors import LastAdmin, Unauthenticated
from services.grants.rules import Right
from services.oauth.errors import SignInRefused
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.outbox import EVENT_DATA, EventType
from services.providers.identities import Identities
from services.secret import Secret
from services.sessions.session_views import Device
from services.settings.providers import OAuthProvider
from tests.support.parts import Parts, node
from tests.support.server import PASSWORD, address

IDP = "https://idp.example"
GRANT = Grant(Secret("the access token"), None, None, "openid", None)
HERE = Device("a test", "127.0.0.1")
ALL: list[EventType] = list(get_args(EventType))


async def subscribe(parts: Parts) -> None:
    await parts.services.webhooks.webhooks.create("https://example.com/", ALL, "me")


async def reported(parts: Parts) -> list[tuple[str, str, Any]]:
    """Every event so far, oldest first: type, subject, data. They are gone then."""

    def take(db: peewee.Database) -> list[tuple[str, str, Any]]:
        rows = D.select().order_by(D.id).execute(db)
        found = [(row.type, row.subject, json.loads(row.body)["data"]) for row in rows]
        for type_, _, data in found:
            read = msgspec.convert(data, EVENT_DATA[type_])
            assert msgspec.to_builtins(read) == data  # nothing that is not described
        D.delete().execute(db)
        return found

    return await parts.database.run(take)


@pytest.mark.gen_test
async def test_accounts_and_sessions(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        accounts, administration = parts.services.accounts, parts.services.administration
        admin = await accounts.sign_up(address(), PASSWORD, "Ada", HERE)
        user = await accounts.sign_up(address(), PASSWORD, "Grace", HERE)
        id_, sid = user.user.id, user.claims.sid
        events = await reported(parts)
        assert [(e[0], e[2].get("role")) for e in events] == [
            ("user.created", "admin"),
            ("session.opened", None),
            ("user.created", "user"),
            ("session.opened", None),
        ]
        assert {e[1] for e in events[2:]} == {f"user:{id_}"}
        assert events[3][2]["session_id"] == sid

        await parts.refresh.rotation.refresh(user.refresh_token.reveal())
        assert await reported(parts) == []
        await accounts.change_password(id_, sid, PASSWORD, PASSWORD + " x")
        ((type_, _, data),) = await reported(parts)
        assert type_ == "session.ended"
        assert data == {
            "user_id": id_,
            "session_id": None,
            "all": True,
            "but": sid,
            "reason": "password_changed",
        }
        await parts.session_ends.end(id_, sid, "logout", "a token")
        ((type_, _, data),) = await reported(parts)
        assert (type_, data["session_id"], data["all"]) == ("session.ended", sid, False)

        await administration.update(id_, "admin", True)
        events = await reported(parts)
        assert [e[0] for e in events] == ["user.changed", "user.disabled", "session.ended"]
        await administration.update(id_, "admin", True)
        assert "user.disabled" not in [e[0] for e in await reported(parts)]
        await administration.update(id_, None, False)
        ((type_, _, data),) = await reported(parts)
        assert (type_, data["changed"], data["disabled"]) == ("user.changed", "disabled", False)
        await administration.update(id_, None, False)
        assert await reported(parts) == []
        await administration.delete(id_)
        assert [e[0] for e in await reported(parts)] == [
            "user.disabled",
            "session.ended",
            "user.deleted",
        ]
        with pytest.raises(LastAdmin):
            await administration.update(admin.user.id, "user", None)
        assert await reported(parts) == []


@pytest.mark.gen_test
async def test_a_session_over_the_limit_and_a_stolen_one_are_reported(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        sessions, user_id = parts.services.login_sessions, await parts.user()
        limit = parts.services.infrastructure.settings.max_sessions_per_user
        for _ in range(limit):
            await sessions.open(user_id, "password", HERE)
        last = await sessions.open(user_id, "password", HERE)
        events = [e for e in await reported(parts) if e[0] == "session.ended"]
        assert [e[2]["reason"] for e in events] == ["session_limit"]
        first = last.refresh_token.reveal()
        second = (await parts.refresh.rotation.refresh(first)).refresh_token.reveal()
        await parts.refresh.rotation.refresh(second)
        parts.clock.forward(60.0)
        with pytest.raises(Unauthenticated, match="used token"):
            await parts.refresh.rotation.refresh(first)
        assert [e[2]["reason"] for e in await reported(parts)] == ["refresh_reuse"]


def person(**values: Any) -> ProviderProfile:
    """Somebody that a provider vouches for."""
    profile = ProviderProfile(IDP, "ada", "s-1", "ada@example.org", True, "Ada", {})
    return msgspec.structs.replace(profile, **values)


@pytest.mark.gen_test
async def test_what_comes_of_a_sign_in_at_a_provider(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        outbox, oauth = parts.services.webhooks.outbox, parts.services.oauth
        identities = Identities(
            parts.database,
            parts.services.login_sessions,
            parts.services.revocations,
            oauth.tokens,
            parts.registration.rules,
            parts.registration.handovers,
            parts.clock,
            outbox,
        )
        plain = OAuthProvider("idp", IDP, "client", Secret("secret"))
        roles = OAuthProvider(
            "idp", IDP, "client", Secret("secret"), role_claim="groups", roles=(("ops", "admin"),)
        )
        await parts.services.accounts.sign_up(address(), PASSWORD, "First", HERE)
        await reported(parts)

        async def sign_in(who: ProviderProfile, provider: OAuthProvider = plain) -> list[Any]:
            await identities.sign_in(provider, who, GRANT, HERE)
            return [
                (e[0], e[2].get("changed") or e[2].get("method")) for e in await reported(parts)
            ]

        opened = ("session.opened", "oauth:idp")
        assert await sign_in(person()) == [("user.created", None), opened]
        assert await sign_in(person()) == [opened]
        moved = person(email="ada@example.net")
        assert await sign_in(moved) == [("user.changed", "email"), opened]
        ops = msgspec.structs.replace(moved, claims={"groups": ["ops"]})
        assert await sign_in(ops, roles) == [("user.changed", "role"), opened]
        # Whom the provider gives no role any more is refused, and no administrator.
        with pytest.raises(SignInRefused):
            await sign_in(msgspec.structs.replace(moved, claims={"groups": []}), roles)
        ((type_, _, data),) = await reported(parts)
        assert (type_, data["changed"], data["role"]) == ("user.changed", "role", "user")


@pytest.mark.gen_test
async def test_what_a_provider_says(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        user = await parts.signed_in()
        await reported(parts)
        revocations = parts.services.revocations

        def end(db: peewee.Database) -> object:
            return revocations.record_sessions(
                db, [(user.claims.sid, user.user.id), ("other", user.user.id)], "provider_logout"
            )

        await parts.database.run(end)
        assert [e[2]["session_id"] for e in await reported(parts)] == [user.claims.sid, "other"]


@pytest.mark.gen_test
async def test_commands(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        services = parts.services
        email = address()
        await services.accounts.sign_up(address(), PASSWORD, "Ada", HERE)
        user = await services.accounts.sign_up(email, PASSWORD, "Grace", HERE)
        await services.administration.update(user.user.id, None, True)
        await reported(parts)
        commands = UserCommands(
            parts.database,
            services.revocations,
            services.webhooks.outbox,
        )
        await commands.make_admin(email, parts.clock())
        assert [(e[0], e[2]["changed"]) for e in await reported(parts)] == [
            ("user.changed", "role"),
            ("user.changed", "disabled"),
        ]


@pytest.mark.gen_test
async def test_accounts_opened_for_a_user_and_their_first_password(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        links = parts.services.password_links
        made = await links.open_account(address(), "Grace")
        ((type_, _, data),) = await reported(parts)
        assert (type_, data["id"], data["role"]) == ("user.created", made.user.id, "user")
        await links.use(made.url.reveal().rpartition("=")[2], PASSWORD, "192.0.2.9")
        ((type_, _, data),) = await reported(parts)
        assert (type_, data["reason"]) == ("session.ended", "password_reset")


@pytest.mark.gen_test
async def test_channels(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        owner, member = await parts.user(), await parts.user()
        channels = parts.services.channels
        made = await channels.create(owner, "Herons")

        async def change(act: Coroutine[Any, Any, object]) -> list[Any]:
            await act
            return [(e[1], e[2]["change"], e[2].get("member")) for e in await reported(parts)]

        subject = f"channel:{made.id}"
        assert (await reported(parts))[-1][1:] == (
            subject,
            {
                "id": made.id,
                "name": "Herons",
                "private": True,
                "owner_id": owner,
                "change": "created",
            },
        )
        id_ = made.id
        right = {"id": member, "right": "read"}
        for act, expected in (
            (channels.update(owner, id_, name="Egrets"), ("updated", None)),
            (channels.update(owner, id_, private=False), ("updated", None)),
            (channels.update(owner, id_, roles={"user": "read"}), ("updated", None)),
            (channels.put_member(owner, id_, member, Right.READ), ("member_set", right)),
            (channels.remove_member(member, id_, member), ("member_left", {"id": member})),
            (channels.put_member(owner, id_, member, Right.READ), ("member_set", right)),
            (channels.remove_member(owner, id_, member), ("member_removed", {"id": member})),
        ):
            assert await change(act) == [(subject, *expected)]
        assert await change(channels.update(owner, id_, roles={"user": "read"})) == []
        assert await change(channels.delete(owner, id_)) == [(subject, "deleted", None)]


@pytest.mark.gen_test
async def test_rolled_back_changes_are_not_announced(database_url: str) -> None:
    async with node(database_url) as parts:
        await subscribe(parts)
        user_id = await parts.user()
        await reported(parts)

        def fail(db: peewee.Database) -> None:
            parts.services.session_ends.end_all_within(db, user_id, "x")
            raise ValueError("changed its mind")

        with pytest.raises(ValueError, match="mind"):
            await parts.database.run(fail)
        assert await reported(parts) == []


@pytest.mark.gen_test
async def test_without_a_webhook_nothing_is_written(database_url: str) -> None:
    async with node(database_url) as parts:
        written: list[Callable[[], None]] = []
        parts.services.webhooks.outbox.on_written(lambda: written.append(lambda: None))
        await parts.signed_in()
        assert await reported(parts) == []
        assert not written
