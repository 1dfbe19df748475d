"""PUBLIC_URL with a path: everything lies below it, at the server's own port."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from tests.support.databases import kinds
from tests.support.mail_server import link_of, written
from tests.support.native import App
from tests.support.one_provider import new_user
from tests.support.path_prefix import Below
from tests.support.preloaded import run_command
from tests.support.provider import Provider, provider
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    Answer,
    Client,
    Usher,
    address,
    bearer,
    close_code,
    connect,
    event,
    free_port,
    sign_up,
    usher,
    wait_until,
)
from tests.support.sign_in import CALLBACK, LOGIN, back_from, begin, settings_for

database_kind = kinds("sqlite")  # a path concerns no row

PATH = "/team/usher"
FORMS: dict[str, dict[str, object]] = {
    "direct": {},
    "tornado": {"WEBSOCKET": "tornado"},
    "processes": {"PROCESSES": 2},
}


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as running:
        new_user(running)
        yield running


@pytest.fixture(scope="module", params=FORMS)
def server(request: pytest.FixtureRequest, database_kind: str, op: Provider) -> Iterator[Usher]:
    port = free_port()
    chosen: dict[str, object] = {
        "PORT": port,
        "PUBLIC_URL": f"http://127.0.0.1:{port}{PATH}/",
        "APP_AUDIENCES": "shop",
        **settings_for(op),
        **FORMS[request.param],
    }
    with usher(database_kind, **chosen) as running:
        yield running


@pytest.fixture(scope="module")
def place(server: Usher) -> Below:
    return Below(server.url + PATH)


@pytest.fixture(scope="module", autouse=True)
def founder(place: Below) -> Client:
    """Who made the first account, and so is the administrator."""
    return sign_up(place.as_server)


@pytest.fixture(scope="module")
def ada(place: Below) -> Client:
    return sign_up(place.as_server, browser=True)


def come_back(browser: Client, url: str) -> Answer:
    """The way back from the provider: its redirect URI has the path already."""
    outside = Client(Below(Below(browser.server.url).origin).as_server, cookies=browser.cookies)
    return outside.get(back_from(url))


# ---- what is asked for -------------------------------------------------------------------------


def test_the_start_screen_shows_the_whole_url(server: Usher, place: Below) -> None:
    assert server.pages == place.url
    assert f"Socket    {place.ws}" in server.log


def test_pages_and_all_that_they_name_are_below_the_path(place: Below) -> None:
    root = Client(place.as_server)
    for page in ("/", "/sign-in", "/set-password", "/forgot-password", "/confirm-email", "/docs"):
        answer = root.get(page)
        assert answer.status == 200, page
        named = re.findall(r"""(?:src|href|action)=["']([^"'#][^"']*)["']""", answer.text.decode())
        assert named, page
        for url in named:
            assert url.startswith(f"{PATH}/"), (page, url)
            assert Client(Below(place.origin).as_server).get(url).status == 200, (page, url)


def test_the_versioned_files_are_kept_for_a_year(place: Below) -> None:
    page = Client(place.as_server).get("/").text.decode()
    [script] = re.findall(rf"""src="({PATH}/static/[0-9a-f]{{12}}/app\.js)\"""", page)
    answer = Client(Below(place.origin).as_server).get(script)
    assert "immutable" in answer.headers["Cache-Control"]


def test_the_path_without_its_slash_leads_to_the_front_page(place: Below) -> None:
    answer = Client(Below(place.origin).as_server).get(f"{PATH}?a=b")
    assert (answer.status, answer.headers["Location"]) == (308, f"{PATH}/?a=b")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/auth/me",
        "/sign-in",
        "/static/app.js",
        "/docs",
        f"{PATH}x/api/auth/me",
        f"{PATH}{PATH}/api/auth/me",
        f"/{PATH}/api/auth/me",
        "/team/",
        "/team%2Fusher/api/auth/me",
        "/TEAM/usher/api/auth/me",
        "/team/../team/usher/api/auth/me",
    ],
)
def test_nothing_else_is_answered(place: Below, path: str) -> None:
    answer = Client(Below(place.origin).as_server).get(path)
    assert (answer.status, answer.body["code"]) == (404, "not_found")


def test_the_log_says_what_to_set_where_the_proxy_strips_the_path(
    server: Usher, place: Below
) -> None:
    assert Client(Below(place.origin).as_server).get("/stripped").status == 404
    wait_until(lambda: "if the proxy strips that path, set USHER_PUBLIC_URL_PATH" in server.log)


def test_probes_and_metrics_are_answered_at_the_port_too(place: Below) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        for at in (place.origin, place.url):
            assert Client(Below(at).as_server).get(path).status == 200, (at, path)


def test_the_reference_names_the_path_once(place: Below) -> None:
    root = Client(place.as_server)
    openapi, asyncapi = root.get("/openapi.json").body, root.get("/asyncapi.json").body
    assert openapi["servers"] == [{"url": place.url}]
    assert "/api/auth/login" in openapi["paths"]
    [listed] = asyncapi["servers"].values()
    assert (listed["host"], listed["pathname"]) == (urlsplit(place.url).netloc, PATH)
    assert asyncapi["channels"]["socket"]["address"] == "/ws"
    assert place.url in root.get("/docs").text.decode()


# ---- signing in --------------------------------------------------------------------------------


def test_cookies_are_named_after_the_path_and_the_refresh_token_stays_below_it(
    place: Below,
) -> None:
    body = {"email": address(), "password": PASSWORD, "name": "Ada"}
    answer = Client(place.as_server, browser=True).post("/api/auth/signup", body)
    assert answer.status == 201, answer
    found: dict[str, str] = {}
    for header in answer.headers.get_all("Set-Cookie") or ():
        found |= {name: morsel["path"] for name, morsel in SimpleCookie(header).items()}
    assert found == {
        "team+usher.access_token": "/",
        "team+usher.refresh_token": f"{PATH}/api/auth",
        "team+usher.device": f"{PATH}/api/auth",
    }


def test_a_session_is_refreshed_and_ended(place: Below) -> None:
    eve = sign_up(place.as_server, browser=True)
    assert eve.post("/api/auth/refresh").status == 200
    assert eve.get("/api/auth/me").body == eve.user
    answer = eve.post("/api/auth/logout")
    assert answer.status == 204
    cleared = [SimpleCookie(text) for text in answer.headers.get_all("Set-Cookie") or ()]
    assert {name: morsel["path"] for one in cleared for name, morsel in one.items()} == {
        "team+usher.access_token": "/",
        "team+usher.refresh_token": f"{PATH}/api/auth",
    }
    assert not {name for name in eve.cookies if name.endswith("_token")}


def test_tokens_name_the_whole_url_as_their_issuer(place: Below, ada: Client) -> None:
    own = next(text for name, text in ada.cookies.items() if name.endswith("access_token"))
    for_shop = ada.post("/api/auth/app-token", {"audience": "shop"}).body["token"]
    for token in (own, for_shop):
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["iss"] == place.url
    assert Client(place.as_server).get("/.well-known/jwks.json").body["keys"]


def test_a_provider_is_given_the_redirect_uri_below_the_path(place: Below, op: Provider) -> None:
    browser = Client(place.as_server, browser=True)
    [way] = browser.get("/api/oauth/providers").body["items"]
    assert way["login_url"] == PATH + LOGIN
    there = begin(browser)
    assert parse_qs(urlsplit(there).query)["redirect_uri"] == [place.url + CALLBACK]
    answer = come_back(browser, there)
    assert (answer.status, answer.headers["Location"]) == (302, f"{PATH}/")
    assert browser.get("/api/auth/me").body["name"] == op.user["name"]


def test_a_sign_in_leads_to_any_path_of_the_host_but_to_no_other_sign_in(place: Below) -> None:
    browser = Client(place.as_server, browser=True)
    for good in ("/", "/other/app?x=1", f"{PATH}/docs", f"{place.origin}/x", "/oauth/x"):
        answer = come_back(browser, begin(browser, f"{LOGIN}?{urlencode({'next': good})}"))
        assert (answer.status, answer.headers["Location"]) == (302, good)
    for bad in (
        f"{PATH}/oauth/mock/login",
        "/team/%75sher/oauth/mock/login",
        "/team%2fusher/oauth/mock/login",
        "/team//usher/oauth/mock/login",
        "/x/../team/usher/oauth/mock/login",
        f"{place.origin}{PATH}/oauth/mock/login",
        "https://evil.example/",
    ):
        answer = browser.get(f"{LOGIN}?{urlencode({'next': bad})}")
        assert answer.status == 400, bad


def test_the_error_page_of_a_provider_leads_back_below_the_path(place: Below) -> None:
    page = Client(place.as_server).get(f"{CALLBACK}?state=x&code=y").text.decode()
    links = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert f"{PATH}/" in links
    assert f"{PATH}{LOGIN}" in links
    assert all(link.startswith(f"{PATH}/") for link in links)


def test_a_form_that_a_provider_posts_comes_back_below_the_path(place: Below) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = Client(place.as_server).call("POST", CALLBACK, b"state=x&code=y", form)
    assert (answer.status, answer.headers["Location"]) == (303, f"{PATH}{CALLBACK}?state=x&code=y")


def test_the_sign_in_page_goes_on_to_where_it_was_asked_to(place: Below, ada: Client) -> None:
    assert ada.get("/sign-in").headers["Location"] == f"{PATH}/"
    assert ada.get("/sign-in?next=/other").headers["Location"] == "/other"
    assert ada.get("/sign-in?next=https://evil.example").headers["Location"] == f"{PATH}/"


def test_a_native_app_signs_in_and_hears_the_whole_url_as_issuer(place: Below, ada: Client) -> None:
    app = App(place.as_server)
    page = Client(place.as_server).get(app.at("/sign-in"))
    assert page.status == 200
    location = ada.post("/api/auth/native-code", app.query).body["location"]
    said = parse_qs(urlsplit(location).query)
    assert said["iss"] == [place.url]
    assert app.exchange(said["code"][0]).status == 200


def test_links_in_mails_lead_below_the_path(server: Usher, place: Below, ada: Client) -> None:
    asked = Client(place.as_server).post("/api/auth/password/forgot", {"email": ada.user["email"]})
    assert asked.status == 204

    def came() -> bool:
        return bool(written(server.data_dir / "mail", "reset_password"))

    wait_until(came)
    [mail] = written(server.data_dir / "mail", "reset_password")
    assert link_of(mail).startswith(f"{place.url}/set-password#token=")


def test_invitations_and_links_of_the_command_line_lead_below_the_path(
    server: Usher, place: Below, founder: Client
) -> None:
    invited = founder.post("/api/admin/invitations", {})
    assert invited.body["url"].startswith(f"{place.url}/sign-in#invitation=")
    done = run_command(
        server.environment, "reset-password", founder.user["email"], timeout=PATIENCE
    )
    assert f"{place.url}/set-password#token=" in done.stdout


# ---- the socket --------------------------------------------------------------------------------


def test_the_socket_is_below_the_path_for_each_way_in(place: Below, ada: Client) -> None:
    native = sign_up(place.as_server)

    async def session() -> None:
        async with connect(place.as_server, subprotocols=bearer(native.token)) as socket:
            assert (await event(socket, "joined"))["user"]["id"] == native.user["id"]
        async with connect(place.as_server, f"?ticket={ada.ticket()}") as socket:
            assert (await event(socket, "joined"))["user"]["id"] == ada.user["id"]
        cookie = "; ".join(f"{name}={value}" for name, value in ada.cookies.items())
        headers = {"Cookie": cookie, "Origin": place.origin}
        async with connect(place.as_server, additional_headers=headers) as socket:
            assert (await event(socket, "joined"))["user"]["id"] == ada.user["id"]

    asyncio.run(session())


def test_a_logout_cuts_the_socket(place: Below) -> None:
    eve = sign_up(place.as_server)

    async def session() -> int:
        async with connect(place.as_server, subprotocols=bearer(eve.token)) as socket:
            await event(socket, "joined")
            assert await asyncio.to_thread(lambda: eve.post("/api/auth/logout").status) == 204
            return await close_code(socket)

    assert asyncio.run(session()) == 4410


def test_there_is_no_socket_outside_of_the_path(place: Below) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for path in ("/ws", "/team/ws", f"{PATH}ws", f"{PATH}/ws/", f"{PATH}{PATH}/ws"):
        answer = Client(Below(place.origin).as_server).call("GET", path, headers=upgrade)
        assert answer.status == 404, path
