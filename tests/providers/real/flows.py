"""The flows with a real provider, tested from outside: pages, cookies and metrics."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.provider import NAME, RealProvider
from tests.support.server import Client, Usher, sign_up

REFRESH_SECONDS = 90.0
AT_ONCE_SECONDS = 10.0


@dataclass
class Outcome:
    """What each flow did: "yes", or what was seen instead."""

    sign_in: str = "not run"
    refresh: str = "not run"
    dead_token: str = "not run"
    backchannel: str = "not run"
    rp_logout: str = "not run"
    revocation: str = "not run"


def run(provider: RealProvider, usher: Usher) -> Outcome:
    """Every flow, one after the other. A sign-in that fails is raised: nothing else can be run."""
    outcome = Outcome()
    root = sign_up(usher)
    browser = signed_in(provider, usher)
    me = browser.call("GET", f"{usher.url}/api/auth/me", usher.origin).json()
    outcome.sign_in = "yes" if me["email"] == provider.email else f"as {me!r}"
    outcome.refresh = _refreshed(browser, usher)
    outcome.dead_token = _dead_token(provider)
    outcome.backchannel = _backchannel(provider, browser, usher)
    outcome.rp_logout = _rp_logout(provider, usher)
    outcome.revocation = _revoked(provider, usher, root)
    return outcome


def signed_in(provider: RealProvider, usher: Usher) -> FormBrowser:
    """A new browser, signed in by the provider."""
    seen = ""
    for _ in range(provider.tries):
        browser = FormBrowser()
        page = browser.open(f"{usher.url}/oauth/{NAME}/login")
        if not _is_there(page, usher):
            page = provider.sign_in(browser, page)
        if _is_there(page, usher) and _is_signed_in(browser, usher):
            return browser
        seen = f"ended at {page.status} {page.url}: {_words(page)}"
        time.sleep(1.5)
    raise AssertionError(seen)


def _is_there(page: Page, usher: Usher) -> bool:
    return page.url == f"{usher.url}/" and page.status == 200


def _is_signed_in(browser: FormBrowser, usher: Usher) -> bool:
    return browser.call("GET", f"{usher.url}/api/auth/me", usher.origin).status_code == 200


def _refreshed(browser: FormBrowser, usher: Usher) -> str:
    """Usher refreshes by itself, ahead of the token's end."""
    if not _until(lambda: _count(usher, "refreshes", outcome="refreshed") >= 2, REFRESH_SECONDS):
        if _count(usher, "refreshes", outcome="failed") or _count(
            usher, "refreshes", outcome="ended"
        ):
            return "refused: " + _last(usher, "refresh")
        return "no refresh token"
    unchecked = _count(usher, "refreshes", outcome="unchecked")
    alive = _is_signed_in(browser, usher)
    return "yes" if alive and not unchecked else f"{unchecked:g} unchecked, alive: {alive}"


def _dead_token(provider: RealProvider) -> str:
    """What it answers to a refresh token that is none."""
    metadata = requests.get(
        provider.settings.get("METADATA_URL")
        or provider.issuer.rstrip("/") + "/.well-known/openid-configuration",
        timeout=AT_ONCE_SECONDS,
    ).json()
    form = {"grant_type": "refresh_token", "refresh_token": "0" * 40}
    answer = requests.post(
        metadata["token_endpoint"],
        data=form,
        auth=(provider.client_id, provider.client_secret),
        timeout=AT_ONCE_SECONDS,
    )
    try:
        word = answer.json().get("error", "no error code")
    except (ValueError, AttributeError):
        word = "no JSON"
    return f"{answer.status_code} `{word}`"


def _backchannel(provider: RealProvider, browser: FormBrowser, usher: Usher) -> str:
    if not provider.has_backchannel:
        return provider.no_backchannel
    provider.sign_out(browser)
    if _until(lambda: not _is_signed_in(browser, usher), AT_ONCE_SECONDS):
        return "yes"
    return "still signed in: " + _last(usher, "backchannel-logout")


def _rp_logout(provider: RealProvider, usher: Usher) -> str:
    browser = signed_in(provider, usher)
    answer = browser.call("POST", f"{usher.url}/api/oauth/logout", usher.origin)
    location = answer.json()["location"]
    if location is None:
        return "has none"
    page = provider.confirm_logout(browser, browser.open(location))
    back = _is_there(page, usher)
    again = browser.open(f"{usher.url}/oauth/{NAME}/login")
    if _is_there(again, usher):
        return "no: it still knows the person"
    path = urlsplit(page.url).path
    return "yes" if back else f"yes, and ends on a page of its own (`{path}`)"


def _revoked(provider: RealProvider, usher: Usher, root: Client) -> str:
    browser = signed_in(provider, usher)
    me = browser.call("GET", f"{usher.url}/api/auth/me", usher.origin).json()
    before = _count(usher, "given_back", outcome="done")
    answer = root.call("DELETE", f"/api/admin/users/{me['id']}")
    assert answer.status == 204, answer
    if _until(lambda: _count(usher, "given_back", outcome="done") > before, AT_ONCE_SECONDS):
        return "yes"
    if "not given back" in usher.log:
        return "refused: " + _last(usher, "not given back")
    return "has none"


def _count(usher: Usher, what: str, **labels: str) -> float:
    found = Client(usher).get("/metrics").text.decode()
    label = ",".join(f'{name}="{value}"' for name, value in labels.items())
    match = re.search(rf"^usher_oauth_{what}_total{{{label}}} (\S+)$", found, re.MULTILINE)
    return float(match[1]) if match else 0.0


def _last(usher: Usher, word: str) -> str:
    lines = [line.strip() for line in usher.log.splitlines() if word in line]
    return lines[-1] if lines else "nothing in the log"


def _until(holds: object, seconds: float) -> bool:
    assert callable(holds)
    give_up = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.5)
    return True


def _words(page: Page) -> str:
    text = re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", page.text, flags=re.DOTALL)
    return " ".join(text.split())[:400]
