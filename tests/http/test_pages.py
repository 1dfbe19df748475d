"""The bundled front end: the served files and their policy."""

from __future__ import annotations

import gzip
import html
import http.client
import json
import re
from pathlib import Path

import brotli
import pytest

from handlers.page_files import SMALLEST_COMPRESSED
from tests.support.checks import plain_refusal
from tests.support.databases import kinds
from tests.support.server import ROOT, Client, Usher, sign_up

database_kind = kinds("sqlite")  # a page asks no database

STATIC = ROOT / "static"
FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
TEMPLATES = sorted(path.name for path in (ROOT / "handlers/templates").glob("*.html"))
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def raw_get(server: Usher, path: str) -> tuple[int, bytes]:
    """The answer to a path exactly as it is written; other clients tidy it up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=False)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def page_of(server: Usher, path: str = "/") -> str:
    return Client(server).get(path).text.decode()


def loaded_by(page: str) -> list[str]:
    """The files that a page loads."""
    return re.findall(r"""(?:src|href)=["'](/static/[^"'#]*)["']""", page)


def test_the_page_is_at_the_root(server: Usher) -> None:
    answer = Client(server).get("/")
    assert answer.status == 200
    assert b"<main>" in answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store", "it may say who is signed in"


def test_the_page_says_who_is_signed_in_to_them_alone(server: Usher) -> None:
    ada = sign_up(server, browser=True)
    page = ada.get("/").text.decode()
    start = json.loads(html.unescape(re.findall(r'data-start="([^"]*)"', page)[0]))
    assert start["user"]["email"] == ada.user["email"]
    assert start["is_first"] is False
    [session] = start["sessions"]
    assert session["current"], "where they are signed in, as GET /api/sessions has it"
    assert session == ada.get("/api/sessions").body["items"][0]
    assert ada.user["email"] not in page_of(server)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(server: Usher, name: str) -> None:
    answer = Client(server).get(f"/static/{name}")
    assert answer.status == 200
    assert answer.text == (STATIC / name).read_bytes()
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind.replace("application/javascript", "text/javascript") == TYPES[Path(name).suffix]


@pytest.mark.parametrize("path", ["/sign-in", "/set-password", "/"])
def test_what_a_page_loads_is_kept_for_a_year_and_compressed(server: Usher, path: str) -> None:
    client = Client(server)
    for source in loaded_by(page_of(server, path)):
        plain = client.get(source)
        assert plain.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert plain.headers["Vary"] == "Accept-Encoding"
        for name, unpack in (("br", brotli.decompress), ("gzip", gzip.decompress)):
            asks = {"Accept-Encoding": f"zstd, {name};q=0.5, other;q=0"}
            packed = client.call("GET", source, headers=asks)
            if len(plain.text) >= SMALLEST_COMPRESSED:
                assert packed.headers["Content-Encoding"] == name
                assert unpack(packed.text) == plain.text
                assert packed.headers["ETag"] != plain.headers["ETag"]
        asks = {"Accept-Encoding": "br;q=0, gzip;q=0.0"}
        assert client.call("GET", source, headers=asks).headers["Content-Encoding"] is None


def test_another_version_of_a_file_is_this_one_and_not_kept(server: Usher) -> None:
    [source] = [name for name in loaded_by(page_of(server)) if name.endswith("app.js")]
    other = re.sub("[0-9a-f]{12}", "0" * 12, source)
    answer = Client(server).get(other)
    assert answer.text == Client(server).get(source).text
    assert answer.headers["Cache-Control"] == "no-cache"


def test_the_first_view_is_one_round_of_few_requests(server: Usher) -> None:
    names = loaded_by(page_of(server))
    assert len(names) == 3, "the icon, the style sheet and one module"
    [app] = [name for name in names if name.endswith(".js")]
    assert re.findall("^import ", Client(server).get(app).text.decode(), re.MULTILINE) == []


@pytest.mark.parametrize("path", ["/", "/static/usher.js", "/static/nope.js", "/static/../x"])
def test_files_come_under_a_strict_policy(server: Usher, path: str) -> None:
    headers = Client(server).get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert headers["Server"] is None
    assert headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_page_holds_nothing_that_its_policy_forbids(name: str) -> None:
    page = (ROOT / "handlers/templates" / name).read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", page) == []
    assert re.findall(r"<style\b", page) == []
    assert re.findall(r"""\s(?:style|on[a-z]+)=["']""", page) == []
    sources = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert [s for s in sources if not s.startswith(("{{ ", "#"))] == []


def test_everything_that_the_page_names_is_there(server: Usher) -> None:
    for source in re.findall(r"""(?:src|href)=["'](/[^"'#]*)["']""", page_of(server)):
        assert Client(server).get(source).status == 200, source


def test_a_file_is_asked_for_again_by_its_tag(server: Usher) -> None:
    first = Client(server).get("/static/usher.js")
    assert first.headers["Cache-Control"] == "no-cache"
    tag = {"If-None-Match": first.headers["ETag"]}
    again = Client(server).call("GET", "/static/usher.js", headers=tag)
    assert (again.status, again.text) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/../../etc/passwd",
        "/static/%2e%2e/server.py",
        "/static/%2e%2e%2fserver.py",
        "/static/..%2fserver.py",
        "/static/..%5cserver.py",
        "/static/x/../../server.py",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static//work/main/server.py",
        "/static/./../server.py",
        "/static/....//server.py",
        "/static/%00/../server.py",
        "/static/%c0%ae%c0%ae/server.py",
        "/static/.",
        "/static/..",
        "/static/",
        "/static",
        "/../server.py",
        "/server.py",
        "/static/index.html%00.js",
        "/static/%ff",
        "/static/" + "x" * 5000,
    ],
)
def test_no_path_leads_out_of_the_folder(server: Usher, path: str) -> None:
    status, body = raw_get(server, path)
    assert status in (400, 403, 404), status
    assert b"import" not in body
    assert b"root:" not in body
    assert b"Traceback" not in body
    assert Client(server).get("/healthz").status == 200


def test_what_is_not_there_is_not_found(server: Usher) -> None:
    plain_refusal(Client(server).get("/static/nope.js"), 404, "not_found")
    plain_refusal(Client(server).get("/index.html"), 404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_files_can_only_be_read(server: Usher, method: str) -> None:
    for path in ("/", "/static/usher.js"):
        plain_refusal(Client(server).call(method, path), 405, "method_not_allowed")
