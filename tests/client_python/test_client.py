"""usher_client.Usher: signing in, misuse by the app, and secrets.
tests/client/test_contract_python.py tests its behaviour on the connection."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.client_python.conftest import AUDIENCE, Place, Run
from tests.support.server import PASSWORD, PATIENCE, Client, address, sign_up
from usher_client import (
    ConnectionEnded,
    Forbidden,
    Gap,
    Message,
    Misuse,
    NotConnected,
    Options,
    SignInNeeded,
    SignInRefused,
    TimedOut,
    TooBig,
    Typing,
    User,
    Usher,
)
from usher_client.backend import AppTokens
from usher_client.inbox import Inbox


def message(number: int) -> Message:
    return Message("channel:tea", "message", number, id=f"{number}-0")


# ---- signing in ------------------------------------------------------------------------------


def in_the_browser(person: Client, **changes: str) -> Any:
    """A person whose browser is signed in, and who presses the button on the page."""

    def open_page(url: str) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert urlsplit(url).path == "/sign-in"
        answer = person.post("/api/auth/native-code", query)
        assert answer.status == 200, answer
        parts = urlsplit(answer.body["location"])
        said = {name: values[0] for name, values in parse_qs(parts.query).items()}
        back = parts._replace(query=urlencode(said | changes)).geturl()
        followed.append(asyncio.get_running_loop().run_in_executor(None, visit, back))

    followed: list[Any] = []
    return open_page


def visit(url: str) -> str:
    answer = httpx.get(url, timeout=PATIENCE)
    return answer.text


def test_an_app_signs_in_by_the_browser_and_opens_a_socket(place: Place, run: Run[Any]) -> None:
    person = sign_up(place.server, browser=True)

    async def sign_in() -> None:
        async with Usher(place.server.url) as usher:
            user = await usher.sign_in_with(open_browser=in_the_browser(person))
            assert user == User(person.user["id"], "Ada", "user")
            assert (await usher.connect()).user.id == user.id
            assert (await usher.me()).id == user.id

    run(sign_in())


def test_an_answer_with_another_state_is_not_accepted(place: Place, run: Run[Any]) -> None:
    person = sign_up(place.server, browser=True)

    async def sign_in() -> None:
        async with Usher(place.server.url) as usher:
            for change in ({"state": "x"}, {"state": "é"}):
                with pytest.raises(TimedOut):
                    await usher.sign_in_with(
                        open_browser=in_the_browser(person, **change), timeout=1.5
                    )
            with pytest.raises(SignInRefused) as refused:
                await usher.sign_in_with(
                    open_browser=in_the_browser(person, iss="https://other.example")
                )
            assert refused.value.code == "wrong_issuer"
            with pytest.raises(SignInRefused) as refused:
                await usher.sign_in_with(open_browser=in_the_browser(person, error="access_denied"))
            assert refused.value.code == "access_denied"
            assert usher.user is None

    run(sign_in())


def test_a_sign_in_is_gone_on_with_later(place: Place, run: Run[Any]) -> None:
    email = address()
    kept: list[str] = []
    sign_up(place.server, email=email)

    async def sign_in() -> None:
        async with Usher(place.server.url, on_refresh_token=kept.append) as usher:
            await usher.sign_in(email, PASSWORD)
        async with Usher(place.server.url, on_refresh_token=kept.append) as usher:
            await usher.resume(kept[-1])
            assert (await usher.me()).name == "Ada"
            assert len(kept) == 2, "the app receives the new one"
            assert usher.refresh_token == kept[-1]
            await usher.sign_out()
        async with Usher(place.server.url) as usher:
            with pytest.raises(SignInNeeded):
                await usher.resume(kept[-1])

    run(sign_in())


def test_own_tokens_and_keys_take_the_place_of_a_sign_in(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)
    asked: list[bool] = []

    def get_token(renew: bool) -> str:
        asked.append(renew)
        return str(ada.token)

    async def connect() -> None:
        async with Usher(place.server.url, get_token=get_token) as usher:
            assert (await usher.connect()).user.id == ada.user["id"]
            assert asked == [False]
        async with Usher(place.server.url, key=place.key) as usher:
            body = {"room": place.channel(), "event": "x"}
            assert await usher.call("POST", "/api/publish", body) is None
            with pytest.raises(Misuse, match="cannot open a socket"):
                await usher.connect()

    run(connect())


def test_a_mistake_in_the_apps_function_is_reported_at_once(place: Place, run: Run[Any]) -> None:
    def broken(_: bool) -> str:
        raise KeyError("token")

    def nobody(_: bool) -> str:
        raise SignInNeeded

    async def connect() -> None:
        for function, error in ((broken, Misuse), (nobody, SignInNeeded)):
            async with Usher(place.server.url, get_token=function) as usher:
                with pytest.raises(error):
                    await usher.connect()

    run(connect())


@pytest.mark.parametrize(
    "url", ["", "usher.example", "ftp://x", "http://a:b@x", "http://x/?a", "http://x/#a"]
)
def test_an_address_that_is_invalid_is_said(url: str) -> None:
    with pytest.raises(Misuse, match="url"):
        Usher(url)


def test_an_option_that_is_invalid_is_said() -> None:
    with pytest.raises(Misuse, match="timeout"):
        Options(timeout=0)


# ---- calls -----------------------------------------------------------------------------------


def test_an_app_token_is_kept_until_it_is_about_to_end(place: Place, run: Run[Any]) -> None:
    email = address()
    sign_up(place.server, email=email)

    async def ask() -> None:
        async with Usher(place.server.url) as usher, AppTokens(place.server.url, AUDIENCE) as apps:
            user = await usher.sign_in(email, PASSWORD)
            token = await usher.app_token(AUDIENCE)
            assert await usher.app_token(AUDIENCE) == token
            caller = await apps.check(token)
            assert caller is not None
            assert caller.id == user.id

    run(ask())


@pytest.mark.parametrize("path", ["http://x/", "//x/", "x", "https://x"])
def test_a_call_is_sent_to_this_server_only(place: Place, run: Run[Any], path: str) -> None:
    async def ask() -> None:
        async with Usher(place.server.url, key=place.key) as usher:
            with pytest.raises(Misuse, match="path"):
                await usher.call("GET", path)

    run(ask())


# ---- rooms -----------------------------------------------------------------------------------


def test_two_users_talk(place: Place, run: Run[Any]) -> None:
    emails, name = [address(), address()], place.channel()
    for email in emails:
        sign_up(place.server, email=email)

    async def talk() -> None:
        async with Usher(place.server.url) as ada, Usher(place.server.url) as ben:
            for usher, email in zip((ada, ben), emails, strict=True):
                await usher.sign_in(email, PASSWORD)
                await usher.connect()
            hers, his = ada.room(name), ben.room(name)
            assert hers is ada.room(name)
            said = await hers.send({"tea": True})
            heard = await anext(his)
            assert (heard.id, heard.data, heard.event) == (said, {"tea": True}, "message")
            assert heard.sender is not None
            assert heard.sender.id == ada.session.user.id if ada.session else ""
            assert heard.after_gap is False
            people = await his.presence()
            assert people.total == 2
            await his.typing()
            typed = [event async for event in _until(hers.events(), Typing)]
            assert typed[-1].room == name
            page = await his.history()
            assert [one.id for one in page.messages] == [said]
            assert page.complete
            await his.leave()
            assert [one async for one in his] == []
            back = ben.room(name)
            assert back is not his
            await asyncio.wait_for(_in_again(ben, name), PATIENCE)
            await hers.send("again")
            assert (await anext(back)).data == "again"

    run(talk())


async def _in_again(usher: Usher, name: str) -> None:
    while name not in (await usher.request("join-channels"))["rooms"]:
        pass  # each is a round trip


async def _until(events: Any, kind: type) -> Any:
    async for event in events:
        yield event
        if isinstance(event, kind):
            return


def test_a_forbidden_room_ends_the_iteration_with_an_error(place: Place, run: Run[Any]) -> None:
    email = address()
    sign_up(place.server, email=email)
    private = place.admin.post("/api/channels", {"name": "board"}).body["id"]

    async def listen() -> None:
        async with Usher(place.server.url) as usher:
            room = usher.room(f"channel:{private}")
            with pytest.raises(NotConnected):
                await room.send(1)
            await usher.sign_in(email, PASSWORD)
            await usher.connect()
            with pytest.raises(Forbidden):
                await anext(room)
            with pytest.raises(Forbidden):
                await room.send(1)

    run(listen())


def test_when_the_session_ends_the_iteration_says_so(place: Place, run: Run[Any]) -> None:
    email, name = address(), place.channel()
    sign_up(place.server, email=email)

    async def listen() -> None:
        async with Usher(place.server.url) as usher:
            user = await usher.sign_in(email, PASSWORD)
            await usher.connect()
            room = usher.room(name)
            place.admin.post(f"/api/admin/users/{user.id}/disconnect")
            with pytest.raises(SignInNeeded) as over:
                await anext(room)
            assert over.value.end is not None
            assert over.value.end.code == 4410
            with pytest.raises(SignInNeeded):
                await usher.connect()

    run(listen())


def test_what_is_too_big_or_no_json_is_not_sent(place: Place, run: Run[Any]) -> None:
    email, name = address(), place.channel()
    sign_up(place.server, email=email)

    async def talk() -> None:
        async with Usher(place.server.url) as usher:
            await usher.sign_in(email, PASSWORD)
            await usher.connect()
            room = usher.room(name)
            with pytest.raises(TooBig):
                await room.send("x" * 70_000)
            for data in ({1, 2}, float("nan"), "\ud800"):
                with pytest.raises(Misuse):
                    await room.send(data)
            assert await room.send("good"), "the socket lives on"

    run(talk())


def test_a_full_inbox_reports_a_gap(run: Run[Any]) -> None:
    async def read() -> None:
        inbox = Inbox("channel:tea", limit=3)
        for number in range(5):
            inbox.put(message(number))
        inbox.put(Typing("channel:tea", User("u", "Ada")))
        inbox.finish(None)
        found = []
        while (event := await inbox.get()) is not None:
            found.append(event)
        assert found == [Gap("channel:tea"), message(2), message(3), message(4)]

    run(read())


def test_closing_ends_what_waits(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    async def close() -> None:
        async with Usher(place.server.url, get_token=lambda _: str(ada.token)) as usher:
            room = usher.room(f"user:{ada.user['id']}")
            await usher.connect()
            waiting = asyncio.ensure_future(anext(room, None))
            await asyncio.sleep(0)
            await usher.disconnect()
            assert await waiting is None
        async with Usher("http://127.0.0.1:9", get_token=lambda _: "x") as usher:
            connecting = asyncio.ensure_future(usher.connect())
            await asyncio.sleep(0.1)
            await usher.disconnect()
            with pytest.raises(ConnectionEnded):
                await connecting

    run(close())


# ---- secrets ---------------------------------------------------------------------------------


def test_no_token_is_in_a_log_or_a_repr(
    place: Place, run: Run[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    email, secrets = address(), [PASSWORD, place.key]
    sign_up(place.server, email=email)

    async def use() -> None:
        async with Usher(place.server.url, on_refresh_token=secrets.append) as usher:
            await usher.sign_in(email, PASSWORD)
            await usher.connect()
            await usher.room(place.channel()).send("hello")
            secrets.append(await usher.app_token(AUDIENCE))
            login = vars(usher)["_login"]
            secrets.append(await login.token())
            shown = repr((usher, login, usher.session, usher.state, vars(usher)["_link"]))
            assert not [secret for secret in secrets if secret in shown]
        async with Usher(place.server.url, get_token=lambda _: secrets[-1] + "x") as usher:
            with pytest.raises(SignInNeeded) as refused:
                await usher.connect()
            secrets.append(secrets[-1] + "x")
            assert secrets[-1] not in repr(refused.value)
        async with Usher("http://127.0.0.1:9", key=place.key) as usher:
            with pytest.raises(Exception, match="ConnectError") as away:
                await usher.call("GET", "/x")
            assert place.key not in str(away.value)
            assert away.value.__cause__ is None

    run(use())
    written = "\n".join([*caplog.messages, *(json.dumps(str(r.args)) for r in caplog.records)])
    assert len(secrets) >= 5
    assert not [secret for secret in secrets if secret in written]
