"""Signing in at a provider, as a browser does it: step by step, so that a test can meddle."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from tests.support.http_service import sent_back
from tests.support.provider import Provider
from tests.support.server import Answer, Client, Usher

NAME = "mock"
LOGIN, CALLBACK = f"/oauth/{NAME}/login", f"/oauth/{NAME}/callback"
LOGOUT = f"/oauth/{NAME}/backchannel-logout"


def settings_for(op: Provider, name: str = NAME, **more: object) -> dict[str, object]:
    """The settings with which Usher knows a provider. `more`: without `OAUTH_<NAME>_`."""
    chosen = {
        "ISSUER": op.issuer,
        "CLIENT_ID": op.client_id,
        "CLIENT_SECRET": op.client_secret,
        **more,
    }
    stem = f"OAUTH_{name.upper().replace('-', '_')}_"
    return {"OAUTH_PROVIDERS": name, **{stem + key: value for key, value in chosen.items()}}


def begin(browser: Client, path: str = LOGIN) -> str:
    """The click. Returns where the browser is sent."""
    answer = browser.get(path)
    assert answer.status == 302, (answer.status, answer.text)
    return str(answer.headers["Location"])


def back_from(url: str) -> str:
    """What the provider's answer asks of Usher: path and query of the way back."""
    parts = urlsplit(sent_back(url))
    return urlunsplit(("", "", parts.path, parts.query, ""))


def come_back(browser: Client, url: str) -> Answer:
    """The way back from a provider's page."""
    return browser.get(back_from(url))


def sign_in(server: Usher, browser: Client | None = None) -> Client:
    """Somebody signed in by the provider. Returns the browser that is."""
    browser = browser or Client(server, browser=True)
    answer = come_back(browser, begin(browser))
    assert (answer.status, answer.headers["Location"]) == (302, "/"), answer
    me = browser.get("/api/auth/me")
    assert me.status == 200, me
    browser.user = me.body
    return browser


def sid_of(browser: Client) -> str:
    """The login session that a browser is signed in with."""
    items = browser.get("/api/sessions").body["items"]
    return str(next(item["id"] for item in items if item["current"]))


def refused(answer: Answer, status: int, code: str) -> str:
    """A page that says why not, and nothing else. Returns its words."""
    assert answer.status == status, (answer.status, answer.text)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = answer.text.decode()
    assert f'data-code="{code}"' in page
    assert "<script" not in page
    return unescape(re.sub(r"<[^>]+>", " ", page))


def changed(path: str, **parameters: str | None) -> str:
    """A way back with other parameters; None takes one away."""
    parts = urlsplit(path)
    found: dict[str, Any] = {name: values[0] for name, values in parse_qs(parts.query).items()}
    found |= parameters
    kept = {name: value for name, value in found.items() if value is not None}
    return f"{parts.path}?{urlencode(kept)}"


def log_out_there(server: Usher, token: str, path: str = LOGOUT) -> Answer:
    """The provider's call that says that a session is over."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return Client(server).call("POST", path, urlencode({"logout_token": token}).encode(), form)
