"""usher_client.backend against a real Usher: identifying callers, and publishing."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.client_python.conftest import AUDIENCE, Place, Run
from tests.support.server import PASSWORD, ROOT, Client, address, sign_up
from usher_client import (
    BadRequest,
    Message,
    NotFound,
    Refused,
    Unreachable,
    Usher,
)
from usher_client.backend import AppTokens, Backend, Introspection, Webhook


def forget_nothing(place: Place, **more: Any) -> Introspection:
    return Introspection(place.server.url, place.key, cache_seconds=600.0, **more)


# ---- introspection ---------------------------------------------------------------------------


def test_a_backend_identifies_callers_by_either_kind_of_token(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    async def ask() -> None:
        async with forget_nothing(place) as checks:
            for token in (str(ada.token), place.app_token(ada)):
                caller = await checks.check(token)
                assert caller is not None
                assert (caller.id, caller.name, caller.role) == (ada.user["id"], "Ada", "user")
                assert caller.session_id
                assert caller.acr == "1"
                assert caller.expires_at > caller.auth_time > 0

    run(ask())


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é" * 20, "x" * 100_000])
def test_an_invalid_token_identifies_no_user(place: Place, run: Run[Any], token: str) -> None:
    async def ask() -> None:
        async with forget_nothing(place) as checks:
            assert await checks.check(token) is None

    run(ask())


def test_a_logout_is_seen_at_once_without_a_memory(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)
    token = place.app_token(ada)

    async def ask() -> None:
        async with Introspection(place.server.url, place.key, cache_seconds=0) as checks:
            assert await checks.check(token) is not None
            assert ada.post("/api/auth/logout").status == 204
            assert await checks.check(token) is None

    run(ask())


@pytest.mark.parametrize("how", ["session", "user", "webhook", "everybody"])
def test_forget_drops_the_named_user_from_the_cache(place: Place, run: Run[Any], how: str) -> None:
    ada, ben = sign_up(place.server), sign_up(place.server)
    tokens = [str(ada.token), str(ben.token)]

    async def ask() -> None:
        async with forget_nothing(place) as checks:
            caller, other = [await checks.check(token) for token in tokens]
            assert caller is not None
            assert other is not None
            assert ada.post("/api/auth/logout").status == 204
            assert await checks.check(tokens[0]) is caller, "it was remembered"
            ended = {"session_id": caller.session_id, "user_id": caller.id}
            ways: dict[str, Callable[[], None]] = {
                "session": lambda: checks.forget(session_id=caller.session_id),
                "user": lambda: checks.forget(user_id=caller.id),
                "webhook": lambda: checks.heard(Webhook("m1", "session.ended", "", ended)),
                "everybody": checks.forget,
            }
            ways[how]()
            assert await checks.check(tokens[0]) is None
            again = await checks.check(tokens[1])
            assert (again is other) == (how != "everybody"), "others stay remembered"

    run(ask())


def test_an_answer_counts_for_its_time_only(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    async def ask() -> None:
        async with Introspection(place.server.url, place.key, cache_seconds=0.2) as checks:
            assert await checks.check(str(ada.token)) is not None
            assert ada.post("/api/auth/logout").status == 204
            await asyncio.sleep(0.25)
            assert await checks.check(str(ada.token)) is None

    run(ask())


def test_many_requests_with_one_token_are_one_question(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    def asked() -> float:
        text = Client(place.server).get("/metrics").text.decode()
        lines = [x for x in text.splitlines() if x.startswith("usher_http_requests_total")]
        return sum(float(x.rpartition(" ")[2]) for x in lines if 'method="POST"' in x)

    async def ask() -> None:
        async with forget_nothing(place) as checks:
            before = await asyncio.to_thread(asked)
            found = await asyncio.gather(*[checks.check(str(ada.token)) for _ in range(50)])
            assert {one.id for one in found if one} == {ada.user["id"]}
            assert None not in found
            assert await asyncio.to_thread(asked) == before + 1

    run(ask())


def test_an_invalid_key_and_an_unavailable_server_do_not_refuse_the_token(
    place: Place, run: Run[Any]
) -> None:
    ada = sign_up(place.server)

    async def ask() -> None:
        async with Introspection(place.server.url, "usher_key_x") as checks:
            with pytest.raises(Refused) as refused:
                await checks.check(str(ada.token))
            assert refused.value.code == "key_refused"
        async with Introspection("http://127.0.0.1:9", place.key) as checks:
            with pytest.raises(Unreachable):
                await checks.check(str(ada.token))

    run(ask())


# ---- app tokens ------------------------------------------------------------------------------


def test_an_app_token_is_checked_without_asking_each_time(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)
    token, other = place.app_token(ada), place.app_token(ada, "shop")

    async def ask() -> None:
        async with AppTokens(place.server.url, AUDIENCE) as checks:
            caller = await checks.check(token)
            assert caller is not None
            assert (caller.id, caller.name, caller.role) == (ada.user["id"], "Ada", "user")
            assert await checks.check(other) is None, "it is for another backend"
            assert await checks.check(str(ada.token)) is None, "an access token is for Usher alone"
            assert await checks.check(token[:-4] + "AAAA") is None

    run(ask())


def forged(place: Place, headers: dict[str, Any], key: Any, algorithm: str, **claims: Any) -> str:
    now = time.time()
    whole = {
        "iss": place.server.origin,
        "aud": AUDIENCE,
        "sub": "u",
        "sid": "s",
        "jti": secrets.token_hex(8),
        "iat": now,
        "exp": now + 60,
        **claims,
    }
    return jwt.encode(whole, key, algorithm, headers)


def test_a_token_of_another_algorithm_type_or_key_identifies_no_user(
    place: Place, run: Run[Any]
) -> None:
    kid = jwt.get_unverified_header(place.app_token(sign_up(place.server)))["kid"]
    mine = ec.generate_private_key(ec.SECP256R1())
    good = {"kid": kid, "typ": "at+jwt"}
    tokens = [
        forged(place, good, mine, "ES256"),
        forged(place, good, "a secret of more than 32 bytes, for HS256", "HS256"),
        forged(place, good, "", "none"),
        forged(place, {"typ": "at+jwt"}, mine, "ES256"),
        forged(place, {"kid": kid, "typ": "JWT"}, mine, "ES256"),
        forged(place, good | {"kid": "unknown"}, mine, "ES256"),
        forged(place, good | {"crit": ["b64"]}, mine, "ES256"),
    ]

    async def ask() -> None:
        async with AppTokens(place.server.url, AUDIENCE) as checks:
            for token in tokens:
                assert await checks.check(token) is None

    run(ask())


def test_another_issuer_is_not_believed(place: Place, run: Run[Any]) -> None:
    token = place.app_token(sign_up(place.server))

    async def ask() -> None:
        there = "https://usher.example"
        async with AppTokens(place.server.url, AUDIENCE, issuer=there) as checks:
            assert await checks.check(token) is None

    run(ask())


def test_unknown_key_ids_do_not_make_a_backend_ask_for_keys_each_time(
    place: Place, run: Run[Any]
) -> None:
    token = place.app_token(sign_up(place.server))
    mine = ec.generate_private_key(ec.SECP256R1())
    made_up = [forged(place, {"kid": f"k{n}", "typ": "at+jwt"}, mine, "ES256") for n in range(30)]

    def asked() -> float:
        text = Client(place.server).get("/metrics").text.decode()
        lines = [x for x in text.splitlines() if x.startswith("usher_http_requests_total")]
        return sum(float(x.rpartition(" ")[2]) for x in lines if 'method="GET"' in x)

    async def ask() -> None:
        async with AppTokens(place.server.url, AUDIENCE) as checks:
            assert await checks.check(token) is not None
            before = await asyncio.to_thread(asked)
            for one in made_up:
                assert await checks.check(one) is None
            assert await asyncio.to_thread(asked) <= before + 2  # one of them is this question
            assert await checks.check(token) is not None

    run(ask())


@pytest.mark.slow
def test_keys_rotate_without_a_refused_token(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    async def ask() -> None:
        async with AppTokens(place.server.url, AUDIENCE) as checks:
            assert await checks.check(place.app_token(ada)) is not None
            command = [sys.executable, "server.py", "rotate-keys"]
            environment = place.server.environment
            await asyncio.to_thread(
                subprocess.run, command, cwd=ROOT, env=environment, check=True, capture_output=True
            )
            assert await checks.check(place.app_token(ada)) is not None

    run(ask())


def test_without_keys_no_token_is_refused_as_invalid(place: Place, run: Run[Any]) -> None:
    token = place.app_token(sign_up(place.server))

    async def ask() -> None:
        async with AppTokens("http://127.0.0.1:9", AUDIENCE) as checks:
            for _ in range(2):
                with pytest.raises(Unreachable):
                    await checks.check(token)

    run(ask())


# ---- publishing ------------------------------------------------------------------------------


def test_what_a_backend_publishes_arrives_and_is_kept_once(place: Place, run: Run[Any]) -> None:
    email, name = address(), place.channel()
    sign_up(place.server, email=email)

    async def talk() -> None:
        async with Usher(place.server.url) as usher, Backend(place.server.url, place.key) as back:
            await usher.sign_in(email, PASSWORD)
            await usher.connect()
            room = usher.room(name)
            key = secrets.token_hex(8)
            for _ in range(2):
                await back.publish([name], "posted", {"n": 1}, keep=True, idempotency_key=key)
            await back.publish(name, "posted", {"n": 2})
            first, second = await anext(room), await anext(room)
            assert (first.event, first.data, first.published) == ("posted", {"n": 1}, True)
            assert (second.data, second.id, second.sender) == ({"n": 2}, None, None)
            kept = (await room.history()).messages
            assert [(one.event, one.data, one.id) for one in kept] == [
                ("posted", {"n": 1}, first.id)
            ]
            assert isinstance(kept[0], Message)

    run(talk())


def test_a_room_that_is_not_there_and_a_wrong_member_are_said(place: Place, run: Run[Any]) -> None:
    async def ask() -> None:
        async with Backend(place.server.url, place.key) as backend:
            with pytest.raises(NotFound):
                await backend.publish("channel:nowhere", "posted")
            with pytest.raises(BadRequest, match="event"):
                await backend.publish(place.channel(), "presence")

    run(ask())


def test_no_secret_is_shown(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    async def ask() -> None:
        async with forget_nothing(place) as checks, Backend(place.server.url, place.key) as back:
            caller = await checks.check(str(ada.token))
            shown = repr((checks, back, caller, vars(checks).keys()))
            assert place.key not in shown
            assert str(ada.token) not in shown
            assert str(ada.token).encode() not in repr(vars(checks)["_known"]).encode()

    run(ask())
