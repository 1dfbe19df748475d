"""practice_provider.py: a whole sign-in, and a clean end."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from practice_provider import PEOPLE, ROOT, usher_environment
from services.settings.settings import load
from tests.support.redis import alive
from tests.support.run_with_idp import Browser, Practice, practice
from tests.support.server import free_port, wait_until

PROVIDER, USHER = "oidc_provider_mock", "server.py"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    """One that several tests look at and sign in to."""
    keys = Fernet.generate_key().decode()
    with practice(tmp_path_factory.mktemp("practice"), USHER_ENCRYPTION_KEYS=keys) as both:
        both.started()
        yield both


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Practice]:
    """One of the test's own, which may come to harm."""
    with practice(tmp_path) as started:
        started.started()
        yield started


def all_gone(processes: list[Any]) -> None:
    assert len(processes) == 3, "the provider, Usher and its Redis"
    wait_until(lambda: not any(alive(process.pid) for process in processes))


# ---- the way through -----------------------------------------------------------------------


def test_the_screen_says_what_to_click(shared: Practice) -> None:
    screen = shared.screen
    assert f"  1. Open {shared.started()} and choose" in screen
    assert f"http://127.0.0.1:{shared.environment['PRACTICE_PORT']}, a provider" in screen
    assert screen.isascii()
    assert screen.count("  Stop with Ctrl+C.\n") == 1


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person["sub"])
def test_each_of_the_users_signs_in_by_one_click(shared: Practice, person: dict[str, str]) -> None:
    browser = Browser(shared.started())
    me = browser.sign_in(person["sub"])
    assert (me["name"], me["email"]) == (person["name"], person["email"])
    [account] = browser.get("/api/oauth/accounts").json()["items"]
    assert (account["provider"], account["email"]) == ("practice", person["email"])
    assert Browser(shared.started()).sign_in(person["sub"])["id"] == me["id"], (
        "another time, another browser"
    )


def test_a_denial_is_explained_on_a_page(shared: Practice) -> None:
    browser = Browser(shared.started())
    page = browser.choose(browser.to_provider(), {"action": "deny"})
    assert page.status_code == 403
    assert "Practice provider did not share your account." in page.text
    assert browser.get("/api/auth/me").status_code == 401


def test_the_first_user_is_administrator_also_after_a_restart(tmp_path: Path) -> None:
    port = str(free_port())
    with practice(tmp_path, PRACTICE_PORT=port) as both:
        first = Browser(both.started()).sign_in("grace")
        assert first["role"] == "admin"
    with practice(tmp_path, PRACTICE_PORT=port) as both:
        url = both.started()
        assert Browser(url).sign_in("ada")["role"] == "user"
        assert Browser(url).sign_in("grace") == first


def test_a_role_claim_can_be_practised_and_flags_are_for_the_server(tmp_path: Path) -> None:
    port = free_port()
    roles = {
        "USHER_OAUTH_PRACTICE_ROLE_CLAIM": "groups",
        "USHER_OAUTH_PRACTICE_ROLES": "admins:admin,staff:user",
    }
    with practice(tmp_path, "--port", str(port), **roles) as both:
        url = both.started()
        # Where the provider sends the browser back to: not the other name of this machine.
        assert url == f"http://127.0.0.1:{port}"
        assert Browser(url).sign_in("grace")["role"] == "admin", "the first of all is one anyway"
        assert Browser(url).sign_in("ada")["role"] == "admin", "by the claim"


# ---- the end -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_both(both: Practice, how: signal.Signals) -> None:
    started = both.running()
    both.process.send_signal(how)
    both.ended(0)
    all_gone(started)


def test_usher_ends_with_the_provider(both: Practice) -> None:
    started = both.running()
    both.child(PROVIDER).kill()
    both.ended(1)
    assert "usher: practice provider: it has ended, with status -9\n" in both.screen
    all_gone(started)


@pytest.mark.slow
def test_the_provider_ends_with_usher(both: Practice) -> None:
    started = both.running()
    both.child(USHER).kill()
    both.ended(128 + signal.SIGKILL)
    all_gone(started)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux'")
def test_both_end_with_the_one_that_started_them(both: Practice) -> None:
    started = both.running()
    both.process.kill()
    all_gone(started)


# ---- what goes in --------------------------------------------------------------------------


def test_the_server_reports_an_invalid_setting_and_both_end(tmp_path: Path) -> None:
    with practice(tmp_path, "--port", "none") as both:
        both.ended(2)
        assert both.screen.startswith("usher: --port: got 'none', takes ")
        assert both.screen.count("\n") == 1


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with practice(tmp_path, PRACTICE_PORT=str(port)) as both:
            both.ended(1)
            assert both.screen.startswith(f"usher: practice provider: port {port}: ")
            assert f"PRACTICE_PORT={port % 65535 + 1}" in both.screen
            assert both.screen.count("\n") == 1


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "9" * 30])
def test_an_invalid_port_is_reported_in_one_line(tmp_path: Path, text: str) -> None:
    with practice(tmp_path, PRACTICE_PORT=text) as both:
        both.ended(1)
        line = f"usher: practice provider: PRACTICE_PORT: got {text[:20]!r}, takes a port\n"
        assert both.screen == line


def test_the_provider_gets_none_of_ushers_settings(shared: Practice) -> None:
    names = shared.child(PROVIDER).environ()
    assert [name for name in names if name.startswith("USHER_")] == []
    assert "USHER_ENCRYPTION_KEYS" in shared.child(USHER).environ()


def test_the_data_lie_apart_for_each_address_of_the_provider() -> None:
    folders = {usher_environment({}, port)["USHER_DATA_DIR"] for port in (9400, 9401)}
    assert folders == {str(ROOT / "data-practice/9400"), str(ROOT / "data-practice/9401")}
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert "/data-practice/" in ignored


def test_ushers_settings_pass_through_beside_those_of_the_provider(tmp_path: Path) -> None:
    given = {
        "USHER_DATA_DIR": str(tmp_path),
        "USHER_OAUTH_PROVIDERS": "Google, practice",
        "USHER_OAUTH_GOOGLE_CLIENT_ID": "an-id",
        "USHER_OAUTH_GOOGLE_CLIENT_SECRET": "a-secret",
        "USHER_OAUTH_PRACTICE_TITLE": "Somewhere",
        "USHER_OAUTH_PRACTICE_SIGNUP": "false",
    }
    settings = load(usher_environment(given, 9400), [])
    google, practised = settings.oauth_providers
    assert (google.name, google.client_id) == ("google", "an-id")
    assert (practised.issuer, practised.title) == ("http://127.0.0.1:9400", "Somewhere")
    assert not practised.signup
    assert settings.data_dir == tmp_path
    assert settings.warnings == ()
