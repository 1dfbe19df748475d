"""`sign_in_with` of the Python client with a provider: oidc-provider-mock, a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.client_python.conftest import Run
from tests.support.practice_provider import PracticeProvider, practice_provider, settings_for
from tests.support.server import PATIENCE, address, usher
from tests.support.server import Usher as Server
from usher_client import SignInRefused, Usher


@pytest.fixture(scope="module")
def practice() -> Iterator[PracticeProvider]:
    with practice_provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(practice: PracticeProvider) -> Iterator[Server]:
    with usher("sqlite", **settings_for(practice)) as running:
        yield running


class Person:
    """Somebody whose browser is sent to the provider, and who sends its form there."""

    def __init__(self, server: Server, form: dict[str, str]) -> None:
        self._server, self._form = server, form
        self.walk = asyncio.ensure_future(asyncio.sleep(0))

    async def open(self, url: str) -> None:
        assert url.startswith(f"{self._server.url}/oauth/practice/login?")
        self.walk = asyncio.ensure_future(asyncio.to_thread(self._walk, url))

    def _walk(self, url: str) -> None:
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as browser:
            page = browser.get(url)
            assert "Authorize Client" in page.text, page.text
            last = browser.post(page.url, data=self._form)
            assert (last.url.host, last.url.path) == ("127.0.0.1", "/callback"), last.text
            names = [cookie.name for cookie in browser.cookies.jar]
            assert not [name for name in names if "token" in name], "the app is, not the browser"


def test_a_program_signs_in_by_a_provider_and_opens_a_socket(server: Server, run: Run[Any]) -> None:
    email = address()
    kept: list[str] = []

    async def work() -> None:
        async with Usher(server.url, on_refresh_token=kept.append) as one:
            person = Person(server, {"sub": email})
            user = await one.sign_in_with("practice", open_browser=person.open)
            await person.walk
            joined = await one.connect()
            assert joined.user.id == user.id
            assert f"user:{user.id}" in joined.rooms
            me = await one.call("GET", "/api/auth/me")
            assert (me["id"], me["email"]) == (user.id, email)
            [session] = (await one.call("GET", "/api/sessions"))["items"]
            assert (session["method"], session["client"]) == ("oauth:practice", "native")
        async with Usher(server.url, on_refresh_token=kept.append) as later:
            await later.resume(kept[-1])
            assert (await later.me()).id == user.id
            await later.sign_out()

    run(work())


def test_a_no_at_the_provider_is_said(server: Server, run: Run[Any]) -> None:
    async def work() -> None:
        async with Usher(server.url) as one:
            person = Person(server, {"action": "deny"})
            with pytest.raises(SignInRefused) as refused:
                await one.sign_in_with("practice", open_browser=person.open)
            await person.walk
            assert refused.value.code == "access_denied"
            assert one.user is None

    run(work())
