"""Second factors and passkeys on the pages, with Chromium's own authenticator."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Literal

import pyotp
import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.support.browser import pressing, with_authenticator
from tests.support.native import App
from tests.support.qr import read_qr
from tests.support.server import PASSWORD, Usher, address, usher

STEP = 30
RENAME = """async (name) => {
  const id = document.querySelector('#passkeys [id^=rename]').id.replace('rename-', '');
  const body = JSON.stringify({ name });
  return (await fetch(`/api/auth/passkeys/${id}`, { method: 'PATCH', body })).status;
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    with usher("sqlite") as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield with_authenticator(context)
    context.close()


def home(server: Usher) -> str:
    return f"http://localhost:{server.port}"


def sign_up(page: Page, server: Usher) -> str:
    email = address()
    page.goto(f"{home(server)}/#sign-up")
    page.fill("#up-name", "Ada")
    page.fill("#up-email", email)
    page.fill("#up-password", PASSWORD)
    page.click("#sign-up-form [type=submit]")
    expect(page.locator("#factors")).to_be_visible()
    return email


def sign_out(page: Page) -> None:
    """Sign out, and wait for the answer: whoever goes on at once is still signed in."""
    page.click("#sign-out")
    expect(page.locator("#sign-in")).to_be_visible()


def log_in(page: Page, email: str) -> None:
    page.fill("#in-email", email)
    page.fill("#in-password", PASSWORD)
    page.click("#sign-in-form [type=submit]")


def set_up_app(page: Page) -> tuple[pyotp.TOTP, list[str]]:
    page.click("#add-totp")
    expect(page.locator("svg.qr")).to_be_visible()
    app = pyotp.TOTP(page.locator("#totp-secret").inner_text())
    page.fill("#totp-code", "000000")
    page.click("#totp-form [type=submit]")
    expect(page.locator("#totp-code-error")).to_contain_text("not right")
    page.fill("#totp-code", app.now())
    page.click("#totp-form [type=submit]")
    expect(page.locator("#recovery-codes li")).to_have_count(10)
    codes = page.locator("#recovery-codes li").all_inner_texts()
    page.click("#codes-kept")
    expect(page.locator("#totp")).to_contain_text("Recovery codes left: 10")
    return app, codes


def test_an_app_is_set_up_and_asked_for_at_the_next_sign_in(page: Page, server: Usher) -> None:
    email = sign_up(page, server)
    app, codes = set_up_app(page)
    sign_out(page)
    log_in(page, email)
    page.fill("#second-factor-code", "000000")
    page.click("#second-factor-form [type=submit]")
    expect(page.locator("#second-factor-code-error")).to_contain_text("not right")
    page.fill("#second-factor-code", app.at(int(time.time()) + STEP))
    page.click("#second-factor-form [type=submit]")
    expect(page.locator("#totp")).to_contain_text("is on")
    sign_out(page)
    log_in(page, email)
    page.fill("#second-factor-code", codes[0])
    page.click("#second-factor-form [type=submit]")
    expect(page.locator("#totp")).to_contain_text("Recovery codes left: 9")


def is_new_secret(answer: Response) -> bool:
    return answer.request.method == "POST" and answer.url.endswith("/api/auth/totp")


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_qr_code_on_the_page_reads_as_the_url_of_the_secret(
    page: Page, server: Usher, colours: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=colours)
    email = sign_up(page, server)
    with page.expect_response(is_new_secret) as asked:
        page.click("#add-totp")
    expect(page.locator("svg.qr")).to_be_visible()
    read = read_qr(page.context, page.locator("svg.qr"))
    assert read == asked.value.json()["otpauth_url"]
    app = pyotp.parse_uri(read)
    assert isinstance(app, pyotp.TOTP)
    assert (app.secret, app.issuer, app.name) == (
        page.locator("#totp-secret").inner_text(),
        "Usher",
        email,
    )
    page.fill("#totp-code", app.now())
    page.click("#totp-form [type=submit]")
    expect(page.locator("#recovery-codes li")).to_have_count(10)


def test_a_passkey_is_added_signs_in_alone_and_is_removed(page: Page, server: Usher) -> None:
    sign_up(page, server)
    page.click("#add-passkey")
    expect(page.locator("#passkeys li")).to_have_count(1)
    sign_out(page)
    page.click("#passkey-sign-in")
    expect(page.locator("#passkeys li")).to_have_count(1)
    expect(page.locator("#account-name")).to_have_text("Ada")
    sign_out(page)
    page.reload()
    first = page.locator(".passkey-first + #sign-in-form")  # it comes first where it is known
    expect(first).to_be_visible()
    page.click("#passkey-sign-in")
    page.click("#passkeys [id^=rename]")
    page.get_by_label("Name, such as the device").fill("The red key")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#passkeys strong")).to_have_text("The red key")
    page.click("#passkeys [id^=remove]")
    expect(page.locator("#passkeys li")).to_have_count(0)
    sign_out(page)
    page.click("#passkey-sign-in")
    expect(page.locator("#sign-in-form .form-error")).to_contain_text("does not work here")


@pytest.mark.slow
def test_a_passkey_is_removed_though_the_list_is_read_anew_during_the_press(
    page: Page, server: Usher
) -> None:
    sign_up(page, server)
    page.click("#add-passkey")
    expect(page.locator("#passkeys li")).to_have_count(1)
    row = page.locator("#passkeys li")
    with pressing(row.locator("[id^=remove]")):
        page.evaluate(RENAME, "Red key")
        page.evaluate(
            "() => document.querySelector('#add-passkey').click()"
        )  # has one: none is made
        expect(row.locator("strong")).to_have_text("Red key")
    expect(row).to_have_count(0)


@pytest.mark.slow
def test_a_passkey_is_a_second_factor(page: Page, server: Usher) -> None:
    email = sign_up(page, server)
    page.click("#add-passkey")
    expect(page.locator("#passkeys li")).to_have_count(1)
    set_up_app(page)
    sign_out(page)
    log_in(page, email)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.locator("#totp")).to_contain_text("is on")


@pytest.mark.slow
def test_a_cancelled_second_step_can_begin_again(page: Page, server: Usher) -> None:
    email = sign_up(page, server)
    set_up_app(page)
    sign_out(page)
    log_in(page, email)
    expect(page.locator("#second-factor")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#sign-in-form .form-error")).to_contain_text("not finished")
    log_in(page, email)
    expect(page.locator("#second-factor")).to_be_visible()


@pytest.mark.parametrize("way", ["code", "passkey"])
def test_the_sign_in_page_continues_to_the_app_after_the_second_step(
    page: Page, server: Usher, way: str
) -> None:
    email = sign_up(page, server)
    page.click("#add-passkey")
    expect(page.locator("#passkeys li")).to_have_count(1)
    _, codes = set_up_app(page)
    sign_out(page)
    page.route(re.compile(r"^http://127\.0\.0\.1:\d+/callback"), lambda route: route.fulfill())
    app = App(server)
    page.goto(home(server) + app.at("/sign-in"))
    if way == "code":
        log_in(page, email)
        page.fill("#second-factor-code", codes[0])
        page.click("#second-factor-form [type=submit]")
    else:
        page.click("#passkey-sign-in")
    page.wait_for_url(re.compile(r"[?&]code="))


@pytest.mark.slow
def test_the_next_page_follows_the_second_step(page: Page, server: Usher) -> None:
    email = sign_up(page, server)
    _, codes = set_up_app(page)
    sign_out(page)
    page.goto(f"{home(server)}/sign-in?next=/docs")
    log_in(page, email)
    page.fill("#second-factor-code", codes[0])
    page.click("#second-factor-form [type=submit]")
    page.wait_for_url("**/docs")


@pytest.mark.slow
def test_at_an_address_of_numbers_no_passkey_is_offered(page: Page, server: Usher) -> None:
    page.goto(server.url)
    expect(page.locator("#sign-in-form")).to_be_visible()
    expect(page.locator("#passkey-sign-in")).to_have_count(0)
