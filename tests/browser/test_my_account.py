"""The user's own account in a real browser: name, export, and deletion."""

from __future__ import annotations

import json

from playwright.sync_api import Browser, expect

from tests.support.browser import Visitor, credentials_of, visitors
from tests.support.server import usher, wait_until


def test_a_new_name_is_shown_at_once(visitor: Visitor) -> None:
    tab = visitor.arrive()
    expect(tab.at("#my-name")).to_have_value("Ada")
    tab.fill(my_name="")
    tab.page.get_by_role("button", name="Change name").click()
    expect(tab.at("#my-name-error")).to_have_text("Please fill this in.")
    tab.fill(my_name="Zoë")
    tab.page.get_by_role("button", name="Change name").click()
    expect(tab.at("#name-form .form-done")).to_have_text("Your name is changed.")
    expect(tab.at("#account-name")).to_have_text("Zoë")
    tab.page.reload()
    tab.joined()
    expect(tab.at("#account-name")).to_have_text("Zoë")


def test_their_own_data_can_be_kept(visitor: Visitor) -> None:
    tab = visitor.arrive()
    with tab.page.expect_download() as caught:
        tab.page.get_by_role("button", name="Download my data").click()
    download = caught.value
    assert download.suggested_filename == "account.json"
    kept = json.loads(download.path().read_text())
    assert kept["account"]["email"] == visitor.email


def test_deleting_the_account_asks_first_and_ends_at_the_sign_in(visitor: Visitor) -> None:
    tab = visitor.arrive()
    tab.page.get_by_role("button", name="Delete my account").click()
    expect(tab.at("#leave-text")).to_be_focused()
    tab.page.get_by_role("button", name="Keep my account").click()
    expect(tab.at("#leave")).to_be_focused()
    tab.page.get_by_role("button", name="Delete my account").click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.at("#notice-title")).to_have_text("Your account is deleted")
    expect(tab.at("#sign-in")).to_be_visible()
    wait_until(lambda: credentials_of(visitor) == set())
    tab.sign_in(visitor.email)
    expect(tab.at("#sign-in-form .form-error")).to_contain_text("do not go together")


def test_the_last_administrator_cannot_delete_the_account(browser: Browser) -> None:
    with usher("sqlite") as server, visitors(browser, server) as new:
        tab = new().arrive()
        tab.page.get_by_role("button", name="Delete my account").click()
        tab.page.get_by_role("button", name="Delete for good").click()
        expect(tab.at("#account-error")).to_contain_text("only administrator")
        expect(tab.at("#state")).to_have_attribute("data-state", "joined")
