"""The states of the page that a person can see: each is looked at by axe-core, and kept as a
picture by `python -m tests.browser.screens`. An area adds its states here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pyotp
from playwright.sync_api import expect

from tests.support.browser import Tab, Visitor
from tests.support.checks import rows
from tests.support.server import PASSWORD, Usher

AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Mobile Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) Gecko/20100101 Firefox/132.0",
)
LOOK: dict[str, Any] = {
    "APP_NAME": "Lantern",
    "ALLOWED_ORIGINS": "https://app.lantern.example",
    "OAUTH_PROVIDERS": "google,github",
    **{
        f"OAUTH_{name}_{key}": "of-the-screens"
        for name in ("GOOGLE", "GITHUB")
        for key in ("CLIENT_ID", "CLIENT_SECRET")
    },
}
"""Settings of the installation that is shown."""

State = Callable[[Visitor], Tab]
STATES: dict[str, State] = {}
EMPTY = frozenset(("first-visit", "first-steps"))
"""States of an installation in which nobody has an account."""
NAME = "Ada Lovelace"


def state(make: State) -> State:
    """Adds a state under the function's name, with `-` for `_`."""
    STATES[make.__name__.replace("_", "-")] = make
    return make


def signed_up(visitor: Visitor, name: str = NAME) -> Visitor:
    """An account, signed in in this browser."""
    body = {"email": visitor.email, "password": PASSWORD, "name": name}
    assert visitor.post("/api/auth/signup", body) == 201
    return visitor


def as_admin(visitor: Visitor) -> Visitor:
    """Signed in as the one administrator of the pictures."""
    visitor.email = "ada@lantern.example"
    known = rows(visitor.server, "SELECT id FROM users WHERE email = ?", visitor.email)
    if not known:
        signed_up(visitor)
    rows(visitor.server, "UPDATE users SET role = 'admin' WHERE email = ?", visitor.email)
    body = {"email": visitor.email, "password": PASSWORD}
    assert visitor.post("/api/auth/login", body) == 200
    return visitor


def elsewhere(visitor: Visitor, agent: str, server: Usher) -> None:
    """The same account, signed in on another device."""
    other = visitor.context.browser
    assert other is not None
    context = other.new_context(user_agent=agent)
    try:
        answer = context.request.post(
            f"{server.url}/api/auth/login",
            data={"email": visitor.email, "password": PASSWORD},
            headers={"Origin": server.url},
        )
        assert answer.status == 200
    finally:
        context.close()


@state
def first_visit(visitor: Visitor) -> Tab:
    tab = visitor.open()
    expect(tab.at("#sign-up-title")).to_have_text(re.compile("^Welcome to "))
    return tab


@state
def first_steps(visitor: Visitor) -> Tab:
    tab = visitor.open()
    tab.fill(up_name=NAME, up_email=visitor.email, up_password=PASSWORD)
    tab.at("#sign-up-form [type=submit]").click()
    expect(tab.at("#steps-title")).to_be_visible()
    return tab.joined()


@state
def sign_in(visitor: Visitor) -> Tab:
    tab = visitor.open()
    expect(tab.at("#sign-in")).to_be_visible()
    return tab


@state
def sign_in_refused(visitor: Visitor) -> Tab:
    tab = sign_in(visitor)
    tab.sign_in(visitor.email, "not the password")
    expect(tab.at("#sign-in-form .form-error")).not_to_be_empty()
    return tab


@state
def sign_in_for_an_app(visitor: Visitor) -> Tab:
    tab = visitor.open("/sign-in?next=https://app.lantern.example/board")
    expect(tab.at("#sign-in")).to_be_visible()
    return tab


@state
def sign_up(visitor: Visitor) -> Tab:
    tab = visitor.open("/#sign-up")
    expect(tab.at("#sign-up")).to_be_visible()
    return tab


@state
def sign_up_with_a_weak_password(visitor: Visitor) -> Tab:
    tab = sign_up(visitor)
    tab.sign_up(visitor.email, "password1")
    expect(tab.at("#up-password-error li")).not_to_have_count(0)
    return tab


@state
def passkey_first(visitor: Visitor) -> Tab:
    """Somebody who has used a passkey in this browser. An address of numbers has none."""
    visitor.context.add_init_script("try { localStorage.setItem('usher.passkey', '1'); } catch {}")
    tab = visitor.open(f"http://localhost:{visitor.server.port}/")
    expect(tab.at(".passkey-first button")).to_be_visible()
    return tab


@state
def second_step(visitor: Visitor) -> Tab:
    signed_up(visitor)
    origin = {"Origin": visitor.server.url}
    calls, url = visitor.context.request, f"{visitor.server.url}/api/auth"
    secret = calls.post(f"{url}/totp", data={}, headers=origin).json()["secret"]
    code = pyotp.TOTP(secret).now()
    assert calls.post(f"{url}/totp/confirm", data={"code": code}, headers=origin).ok
    assert calls.post(f"{url}/logout", data={}, headers=origin).ok
    tab = sign_in(visitor)
    tab.sign_in(visitor.email)
    expect(tab.page.get_by_role("dialog", name="Second step")).to_be_visible()
    return tab


@state
def recovery_codes(visitor: Visitor) -> Tab:
    tab = authenticator_app(visitor)
    tab.fill(totp_code=pyotp.TOTP(tab.at("#totp-secret").inner_text()).now())
    tab.at("#totp-form [type=submit]").click()
    expect(tab.at("#recovery-codes li")).to_have_count(10)
    return tab


@state
def forgotten_password(visitor: Visitor) -> Tab:
    tab = visitor.open("/forgot-password")
    expect(tab.at("#ask")).to_be_visible()
    return tab


@state
def link_that_does_not_work(visitor: Visitor) -> Tab:
    tab = visitor.open("/set-password")
    expect(tab.at("#refused")).to_be_visible()
    return tab


@state
def account(visitor: Visitor) -> Tab:
    signed_up(visitor)
    for agent in AGENTS:
        elsewhere(visitor, agent, visitor.server)
    elsewhere(visitor, AGENTS[0], visitor.server)
    rows(
        visitor.server,
        "UPDATE login_sessions SET ended_at = last_seen_at, end_reason = 'signed_out' WHERE id = ("
        "SELECT s.id FROM login_sessions s JOIN users u ON u.id = s.user_id WHERE u.email = ? "
        "ORDER BY s.created_at DESC LIMIT 1)",
        visitor.email,
    )
    tab = visitor.open().joined()
    expect(tab.at("#sessions li")).to_have_count(3)
    expect(tab.at("#link-choices button")).to_have_count(2)
    expect(tab.at("#sessions .live").first).to_have_text("1 open socket")
    tab.page.get_by_text("Recently ended").click()
    expect(tab.at("#ended-list li")).to_contain_text("Signed out on another device")
    return tab


@state
def sign_out_everywhere(visitor: Visitor) -> Tab:
    tab = account(visitor)
    tab.at("#sign-out-others").click()
    expect(tab.page.get_by_role("dialog", name="Sign out everywhere else?")).to_be_visible()
    return tab


@state
def authenticator_app(visitor: Visitor) -> Tab:
    tab = signed_up(visitor).open().joined()
    tab.at("#add-totp").click()
    expect(tab.at("svg.qr")).to_be_visible()
    return tab


@state
def step_up(visitor: Visitor) -> Tab:
    tab = signed_up(visitor).open().joined()
    rows(
        visitor.server,
        "UPDATE login_sessions SET auth_time = auth_time - 9000 "
        "WHERE user_id = (SELECT id FROM users WHERE email = ?)",
        visitor.email,
    )
    tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")
    tab.page.get_by_role("button", name="Delete my account").click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.page.get_by_role("dialog", name="Confirm that it is you")).to_be_visible()
    return tab


@state
def signed_out_elsewhere(visitor: Visitor) -> Tab:
    tab = signed_up(visitor).open().joined()
    assert visitor.post("/api/auth/logout") == 204
    expect(tab.at("#notice-title")).to_have_text("You were signed out")
    return tab


@state
def offline(visitor: Visitor) -> Tab:
    tab = signed_up(visitor).open("/#/console").joined()
    tab.at("#toggle-socket").click()
    visitor.context.set_offline(True)
    tab.at("#toggle-socket").click()
    expect(tab.at("#state-text")).to_contain_text("Offline")
    return tab


@state
def rooms_without_any(visitor: Visitor) -> Tab:
    return signed_up(visitor).open().joined().area("Rooms")


@state
def console(visitor: Visitor) -> Tab:
    tab = signed_up(visitor).open("/#/console").joined()
    tab.send("heartbeat")
    tab.send("nonsense", '{"room": "<img src=x onerror=alert(1)>"}')
    expect(tab.at("#reply")).to_have_attribute("data-ok", "false")
    tab.page.evaluate("() => scrollTo(0, 0)")
    return tab


@state
def console_taken_apart(visitor: Visitor) -> Tab:
    """A frame that is open, a token and a ticket; the frames are what is in view."""
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = console(visitor)
    tab.at("#jwt").fill(unsigned_token())
    tab.page.get_by_role("button", name="Take apart").click()
    expect(tab.at("#jwt-parts")).to_contain_text("at+jwt")
    tab.page.get_by_role("button", name="Make a ticket").click()
    expect(tab.at("#ticket-made")).to_contain_text("ends in")
    frame = tab.at("#frames li[data-direction=out]", "nonsense")
    frame.locator("summary").click()
    frame.get_by_role("button", name="Copy as Python").click()
    expect(frame.locator(".snippet")).to_contain_text("import asyncio")
    tab.at("#frames-title").evaluate("title => title.scrollIntoView()")
    return tab


def unsigned_token() -> str:
    """The form of a JWT, and nothing that any server would take."""
    header = {"alg": "HS256", "typ": "at+jwt", "kid": "k1"}
    claims = {"iss": "https://example.com", "sub": "u1", "iat": 1790000000, "exp": 1790000900}
    parts = (json.dumps(part).encode() for part in (header, claims))
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])
