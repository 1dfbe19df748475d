"""docs/proxies: two installations and an app on one host, below a path that the proxy keeps, and
below one that it strips."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from tests.support.databases import kinds
from tests.support.node import run_script
from tests.support.one_provider import new_user
from tests.support.path_prefix import (
    FILES,
    KEPT,
    PATHS,
    STRIPPED,
    Below,
    Installations,
    front,
    two_installations,
)
from tests.support.provider import Provider, provider
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    bearer,
    close_code,
    connect,
    event,
    sign_up,
)
from tests.support.sign_in import CALLBACK, back_from, begin, log_out_there, settings_for
from usher_client import Usher as PythonClient
from usher_client.backend import AppTokens, Backend, Introspection

database_kind = kinds("sqlite")  # a proxy sees no SQL


class Place:
    """One host: a proxy, two installations and an app."""

    def __init__(self, kind: str, installations: Installations) -> None:
        self.kind, self.url = kind, installations.url
        self.founders = installations.founders
        self.host = Client(Below(self.url).as_server)
        """Somebody who asks for any path of the host."""

    def at(self, path: str) -> Usher:
        """An installation as clients reach it."""
        return Below(self.url + path).as_server


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as running:
        new_user(running)
        yield running


@pytest.fixture(scope="module")
def installations(database_kind: str, op: Provider) -> Iterator[Installations]:
    """All proxies have the same behind them, one after the other, and the same port."""
    with two_installations(database_kind, APP_AUDIENCES="shop", **settings_for(op)) as running:
        yield running


@pytest.fixture(scope="module", params=FILES)
def place(request: pytest.FixtureRequest, installations: Installations) -> Iterator[Place]:
    with front(request.param, installations):
        yield Place(request.param, installations)


def come_back(place: Place, browser: Client, there: str) -> Answer:
    """The way back from a provider, to the redirect URI as the provider has it."""
    outside = Client(place.host.server, cookies=browser.cookies)
    return outside.get(back_from(there))


@pytest.mark.parametrize("path", PATHS)
def test_each_page_and_each_file_that_it_names_comes_from_its_installation(
    place: Place, path: str
) -> None:
    for page in ("/", "/sign-in", "/forgot-password", "/docs"):
        answer = place.host.get(path + page)
        assert answer.status == 200, page
        named = re.findall(r"""(?:src|href)=["']([^"'#][^"']*)["']""", answer.text.decode())
        assert named
        for url in named:
            assert url.startswith(f"{path}/"), url
            assert place.host.get(url).status == 200, url
    assert place.host.get("/usherx/").text.startswith(b"/usherx/")  # the app's


@pytest.mark.parametrize("path", PATHS)
def test_the_path_without_its_slash_leads_to_the_page(place: Place, path: str) -> None:
    answer = place.host.get(path)
    assert answer.status in (301, 308)
    assert answer.headers["Location"] == f"{path}/"


@pytest.mark.parametrize("path", PATHS)
def test_what_the_proxy_closes_is_closed_by_no_other_path(place: Place, path: str) -> None:
    for closed in ("/metrics", "/readyz"):
        name = closed[1:]
        for asked in (
            f"{path}/{name}",
            f"{path}{path}/{name}",
            f"{path}{path}{path}/{name}",
            f"{path}//{name}",
            f"{path}/./{name}",
            f"{path}/x/../{name}",
            f"{path}/%{ord(name[0]):02x}{name[1:]}",
            f"{path}%2f{name}",
            f"{path}/{name}/",
            f"/x/..{path}/{name}",
        ):
            answer = place.host.get(asked)
            of_app = answer.text.startswith(b"/") and answer.status == 200
            assert answer.status in (301, 307, 308, 404) or of_app, asked


@pytest.mark.parametrize("path", PATHS)
def test_somebody_signs_up_joins_refreshes_and_is_cut_at_the_logout(
    place: Place, path: str
) -> None:
    ada = sign_up(place.at(path), browser=True)

    async def session() -> int:
        cookie = "; ".join(f"{name}={value}" for name, value in ada.cookies.items())
        headers = {"Cookie": cookie, "Origin": place.url}
        async with connect(place.at(path), additional_headers=headers) as line:
            assert (await event(line, "joined"))["user"]["id"] == ada.user["id"]
            assert (await asyncio.to_thread(ada.post, "/api/auth/refresh")).status == 200
            async with connect(place.at(path), f"?ticket={ada.ticket()}") as second:
                assert (await event(second, "joined"))["user"]["id"] == ada.user["id"]
                assert (await asyncio.to_thread(ada.post, "/api/auth/logout")).status == 204
                assert await close_code(second) == 4410
            return await close_code(line)

    assert asyncio.run(session()) == 4410


@pytest.mark.parametrize("path", PATHS)
def test_a_provider_leads_there_and_back_and_signs_out(
    place: Place, path: str, op: Provider
) -> None:
    browser = Client(place.at(path), browser=True)
    there = begin(
        browser, browser.get("/api/oauth/providers").body["items"][0]["login_url"][len(path) :]
    )
    assert parse_qs(urlsplit(there).query)["redirect_uri"] == [place.url + path + CALLBACK]
    answer = come_back(place, browser, there)
    assert (answer.status, answer.headers["Location"]) == (302, f"{path}/")
    assert browser.get("/api/auth/me").body["name"] == op.user["name"]
    listed = place.founders[path].get("/api/admin/providers").body["items"]
    [shown] = listed
    assert shown["backchannel_logout_uri"] == f"{place.url}{path}/oauth/mock/backchannel-logout"
    done = log_out_there(place.at(path), op.logout_token())
    assert done.status == 200, done
    assert browser.get("/api/auth/me").status == 401


@pytest.mark.parametrize("path", PATHS)
def test_no_spelling_of_next_leads_to_another_sign_in(place: Place, path: str) -> None:
    """A redirect by the page would count as the user's own choice (Sec-Fetch-Site)."""
    browser = Client(place.at(path), browser=True)
    name = path[1:]
    encoded = "".join(f"%{ord(letter):02x}" for letter in name)
    for spelt in (
        f"/{name}/oauth/mock/login",
        f"/{encoded}/oauth/mock/login",
        f"/{name}/%6fauth/mock/login",
        f"/{name}//oauth/mock/login",
        f"/{name}/./oauth/mock/login",
        f"/{name}/x/..%2foauth/mock/login",
        f"/{name}%2foauth/mock/login",
    ):
        answer = browser.get(f"/oauth/mock/login?{urlencode({'next': spelt})}")
        assert answer.status == 400, spelt


def test_two_installations_take_none_of_each_others_cookies(place: Place) -> None:
    """One browser with both; it sends the cookies that have the path of the request."""
    jar: dict[tuple[str, str], str] = {}

    def send(path: str, method: str, call: str, body: Any = None) -> Answer:
        """As a browser does it (RFC 6265 section 5.4)."""
        asked = path + call
        sent = {
            n: v for (n, p), v in jar.items() if asked == p or asked.startswith(p.rstrip("/") + "/")
        }
        client = Client(place.at(path), browser=True, cookies=sent)
        answer = client.call(method, call, body)
        for header in answer.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(header).items():
                if morsel.value:
                    jar[name, morsel["path"]] = morsel.value
                else:
                    jar.pop((name, morsel["path"]), None)
        return answer

    people = {}
    for path in PATHS:
        body = {"email": address(), "password": PASSWORD, "name": path}
        people[path] = send(path, "POST", "/api/auth/signup", body).body["user"]
    for path in PATHS:
        assert send(path, "GET", "/api/auth/me").body == people[path]
        assert send(path, "POST", "/api/auth/refresh").status == 200
    assert send(KEPT, "POST", "/api/auth/logout").status == 204
    assert send(KEPT, "GET", "/api/auth/me").status == 401
    assert send(STRIPPED, "GET", "/api/auth/me").body == people[STRIPPED]
    assert send(STRIPPED, "POST", "/api/auth/refresh").status == 200
    assert not [name for name, _ in jar if name.startswith("usher.") and name.endswith("_token")]


@pytest.mark.parametrize("path", PATHS)
def test_a_token_of_one_installation_opens_nothing_at_the_other(place: Place, path: str) -> None:
    ada = sign_up(place.at(path))
    other = next(one for one in PATHS if one != path)
    assert Client(place.at(other), token=ada.token).get("/api/auth/me").status == 401

    async def session() -> int:
        async with connect(place.at(other), subprotocols=bearer(ada.token)) as line:
            return await close_code(line)

    assert asyncio.run(session()) == 4401


@pytest.mark.parametrize("path", PATHS)
def test_the_clients_for_python_take_the_whole_url(place: Place, path: str) -> None:
    url, founder = place.url + path, place.founders[path]
    scopes = ["introspect", "publish"]
    made = founder.post("/api/admin/api-keys", {"name": "shop", "scopes": scopes})
    email = address()
    ada = sign_up(place.at(path), email=email)

    async def session() -> None:
        async with PythonClient(url) as client:
            user = await client.sign_in(email, PASSWORD)
            assert user.id == ada.user["id"]
            await client.connect()
            room = client.room(f"user:{user.id}")
            backend = Backend(url, made.body["key"])
            try:
                await backend.publish(f"user:{user.id}", "noted", {"text": "here"}, keep=True)
            finally:
                await backend.close()
            assert (await room.history()).messages[-1].data == {"text": "here"}
        introspection = Introspection(url, made.body["key"])
        try:
            assert ada.token is not None
            caller = await introspection.check(ada.token)
            assert caller is not None
            assert caller.id == ada.user["id"]
        finally:
            await introspection.close()
        token = ada.post("/api/auth/app-token", {"audience": "shop"}).body["token"]
        tokens = AppTokens(url, "shop")
        try:
            caller = await tokens.check(token)
            assert caller is not None
            assert caller.id == ada.user["id"]
        finally:
            await tokens.close()

    asyncio.run(session())


@pytest.mark.parametrize("path", PATHS)
def test_the_client_for_javascript_takes_the_whole_url(place: Place, path: str) -> None:
    script = """
        const { createUsher } = await import(`${process.env.USHER_JS}/usher-index.js`);
        const { URL: url, EMAIL: email, SECRET: password } = process.env;
        const usher = createUsher({ url, credentials: 'tokens' });
        const { id } = await usher.signUp({ email, password, name: 'Ada' });
        const session = await usher.connect();
        const me = await (await usher.fetch('/api/auth/me')).json();
        const { messages } = await usher.room(`user:${id}`).history();
        await usher.signOut();
        const { status } = await usher.fetch('/api/auth/me');
        console.log(JSON.stringify([session.user.id === id, me.id === id, messages, status]));
    """
    url = place.url + path
    status, out, err = run_script(script, URL=url, EMAIL=address(), SECRET=PASSWORD)
    assert (status, err) == (0, "")
    assert json.loads(out) == [True, True, [], 401]


def test_a_name_with_a_slash_passes_where_the_path_is_kept(place: Place) -> None:
    """docs/operations.md says that of nginx where it strips."""
    name = quote("a/b", safe="")
    answers = {}
    for path, founder in place.founders.items():
        answers[path] = founder.call("PUT", f"/api/models/{name}", {"title": "A"}).status
        founder.call("DELETE", f"/api/models/{name}")
    assert answers[KEPT] in (200, 201, 204)
    assert (answers[STRIPPED] == 404) == (place.kind == "nginx")
