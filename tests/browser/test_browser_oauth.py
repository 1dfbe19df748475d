"""Signing in with a provider in a real browser: with oidc-provider-mock, and with the tests' own
providers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from services.providers.registry import usual_title
from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Tab, Visit, Visitor, credentials_of, pressing
from tests.support.checks import rows
from tests.support.github import github
from tests.support.practice_provider import STYLES, PracticeProvider, practice_provider
from tests.support.provider import Provider, provider
from tests.support.server import PASSWORD, Usher, address, free_port, sign_up, usher, wait_until
from tests.support.sign_in import log_out_there, settings_for

AWAY = "Away <b>& far from everywhere</b>"
"""The title of a provider that nobody listens for."""
VIEWS = ["sign-in", "sign-up", "signed-in", "signed-in-by-provider", "refused"]


@pytest.fixture(scope="module")
def practice() -> Iterator[PracticeProvider]:
    with practice_provider() as running:
        yield running


@pytest.fixture(scope="module")
def shared_op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(database_kind: str, practice: PracticeProvider, shared_op: Provider) -> Iterator[Usher]:
    with github() as hub:
        known = {"CLIENT_ID": hub.client_id, "CLIENT_SECRET": hub.client_secret}
        nowhere = f"http://127.0.0.1:{free_port()}"
        chosen = {
            **settings_for(shared_op, "practice", ISSUER=practice.issuer),
            **settings_for(shared_op, "campus"),
            **settings_for(shared_op, "github", ISSUER=hub.origin, **known),
            **settings_for(shared_op, "away", ISSUER=nowhere, TITLE=AWAY),
            "OAUTH_PROVIDERS": "practice,campus,github,away",
            "LIMIT_WRONG_SIGNINS": 100,
        }
        with usher(database_kind, **chosen) as running:
            sign_up(running)
            yield running


@pytest.fixture
def op(shared_op: Provider) -> Iterator[Provider]:
    """The provider `campus`, with somebody new at it."""
    shared_op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
    for received in (shared_op.ended, shared_op.revoked):
        received.clear()
    yield shared_op
    shared_op.behave()


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    one = visit()
    one.context.route(STYLES, lambda route: route.fulfill(content_type="text/css", body=""))
    return one


def go_on(tab: Tab, title: str, view: str = "sign-in") -> None:
    """Press "Continue with …"."""
    tab.at(f"#{view}").get_by_role("link", name=f"Continue with {title}").click()


def consent(tab: Tab, sub: str) -> None:
    """Be somebody at the practice provider, and let Usher in."""
    tab.page.get_by_placeholder("sub").fill(sub)
    tab.page.get_by_role("button", name="Authorize").click()


def arrive_by(visitor: Visitor, title: str = "Campus") -> Tab:
    """Signed in at a provider that asks nothing."""
    tab = visitor.open()
    go_on(tab, title)
    return tab.joined()


def heading(tab: Tab) -> Locator:
    return tab.page.get_by_role("heading", level=1)


def press(tab: Tab, name: str) -> None:
    tab.page.get_by_role("button", name=name, exact=True).click()


def link(tab: Tab, title: str) -> None:
    """Link another provider, with the password."""
    press(tab, f"Link {title}")
    tab.fill(link_password=PASSWORD)
    tab.at("#link-submit").click()


def grow_old(visitor: Visitor) -> None:
    """Their sign-in was not just now."""
    answer = visitor.context.request.get(f"{visitor.server.url}/api/sessions")
    [session] = answer.json()["items"]
    older = "UPDATE login_sessions SET auth_time = auth_time - 9000 WHERE id = ?"
    rows(visitor.server, older, session["id"])


def signed_out(tab: Tab, words: str) -> None:
    """The page says so, calmly, and offers to sign in again."""
    expect(tab.at("#notice")).to_be_focused()
    expect(tab.at("#notice-title")).to_have_text("You are signed out")
    expect(tab.at("#notice-text")).to_contain_text(words)
    expect(tab.at("#sign-in")).to_be_visible()
    expect(tab.at("#signed-in")).to_be_hidden()


# ---- the button, the consent, the way back ---------------------------------------------------


def test_a_newcomer_comes_in_by_a_provider(visitor: Visitor) -> None:
    tab = visitor.open()
    go_on(tab, "Practice")
    expect(tab.page.get_by_text("Authorize Client")).to_be_visible()
    consent(tab, visitor.email)
    tab.joined()
    assert tab.page.url == f"{visitor.server.url}/"
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Practice")
    expect(tab.at("#linked-list li")).to_contain_text(["Practice"])
    expect(tab.at("#linked-list li")).to_contain_text([visitor.email])
    expect(tab.at("#password-title")).to_have_text("Set a password")
    expect(tab.at("#pw-current")).to_be_hidden()
    names = {cookie["name"] for cookie in visitor.context.cookies()}
    assert names == {"access_token", "refresh_token", "device"}
    tab.page.reload()
    tab.joined()


@pytest.mark.slow
def test_a_provider_user_sets_a_password(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor, "Campus")
    tab.fill(pw_new=PASSWORD)
    tab.at("#pw-submit").click()
    expect(tab.at("#password-form .form-done")).to_have_text("Your password is set.")
    expect(tab.at("#password-title")).to_have_text("Change password")
    expect(tab.at("#pw-current")).to_be_visible()


@pytest.mark.slow
def test_a_user_can_sign_up_with_a_provider_too(visitor: Visitor, op: Provider) -> None:
    tab = visitor.open("/#sign-up")
    go_on(tab, "Campus", "sign-up")
    tab.joined()
    expect(tab.at("#account-name")).to_have_text("Grace")


@pytest.mark.slow
def test_a_denial_at_the_provider_is_explained_and_can_be_repeated(visitor: Visitor) -> None:
    tab = visitor.open()
    go_on(tab, "Practice")
    press(tab, "Deny")
    expect(heading(tab)).to_have_text("Practice did not share your account.")
    expect(tab.page.get_by_role("link", name="Back to sign in")).to_have_attribute("href", "/")
    tab.page.get_by_role("link", name="Try again").click()
    consent(tab, visitor.email)
    tab.joined()


@pytest.mark.slow
def test_the_sign_in_methods_are_those_of_the_server(visitor: Visitor) -> None:
    tab = visitor.open()
    links = tab.at("#sign-in .providers a")
    titles = ["Practice", "Campus", "GitHub", AWAY]
    expect(links).to_have_text([f"Continue with {title}" for title in titles])
    expect(links.first).to_have_attribute("href", "/oauth/practice/login?next=%2F")
    expect(tab.at("#sign-in .or")).to_be_visible()
    expect(tab.at(".providers b")).to_have_count(0)


@pytest.mark.slow
def test_without_providers_there_is_nothing_of_them(database_kind: str, visit: Visit) -> None:
    with usher(database_kind) as bare:
        sign_up(bare)
        visitor = visit(bare)
        tab = visitor.open()
        expect(tab.at("#sign-in")).to_be_visible()
        expect(tab.at(".other-ways:visible")).to_have_count(0)
        tab = visitor.arrive()
        expect(tab.at("#password")).to_be_visible()
        expect(tab.at("#linked")).to_be_hidden()
        expect(tab.at("#sessions li:has(.here)")).to_contain_text("by password")
        tab.page.close()


def cut(route: Route) -> None:
    route.abort()


def answer_badly(route: Route) -> None:
    route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")


@pytest.mark.slow
@pytest.mark.parametrize("broken", [cut, answer_badly])
def test_the_list_comes_with_the_page_whatever_its_call_answers(
    visitor: Visitor, broken: Callable[[Route], None]
) -> None:
    visitor.arrive().page.close()
    visitor.context.clear_cookies()
    visitor.context.route("**/api/oauth/providers", broken)
    tab = visitor.open()
    expect(tab.at("#sign-in")).to_be_visible()
    expect(tab.at("#sign-in .providers a")).to_have_count(4)
    tab.sign_in(visitor.email)
    tab.joined()
    expect(tab.at("#password")).to_be_visible()
    tab.at("#sign-out").click()
    expect(tab.at("#sign-in .providers a")).to_have_count(4)


@pytest.mark.slow
def test_a_signed_in_user_who_returns_to_the_form_sees_that(visitor: Visitor, op: Provider) -> None:
    tab = visitor.open()
    expect(tab.at("#sign-in")).to_be_visible()
    arrive_by(visitor)
    restored = "() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
    tab.page.evaluate(restored)  # as the browser does with a page that it has kept
    tab.joined()


# ---- linked accounts -------------------------------------------------------------------------


def test_a_linked_account_signs_in_from_then_on(visitor: Visitor) -> None:
    tab = visitor.arrive()
    link(tab, "Practice")
    consent(tab, address())
    tab.joined()
    expect(tab.at("#linked-status")).to_have_text("Practice is linked.")
    expect(tab.at("#linked-title")).to_be_focused()
    assert tab.page.url == f"{visitor.server.url}/"
    subject = tab.at("#linked-list li p").first.inner_text()
    tab.at("#sign-out").click()
    signed_out(tab, "You can sign in again at any time.")
    go_on(tab, "Practice")
    consent(tab, subject)
    expect(tab.joined().at("#account-name")).to_have_text("Ada")
    expect(tab.at("#linked-status")).to_be_empty()


@pytest.mark.slow
def test_linking_asks_for_the_password_and_says_when_it_is_wrong(visitor: Visitor) -> None:
    tab = visitor.arrive()
    press(tab, "Link Practice")
    expect(tab.at("#link-password")).to_be_focused()
    expect(tab.at("#link-choices")).to_be_hidden()
    tab.press("Enter")
    expect(tab.at("#link-password-error")).to_have_text("Please fill this in.")
    tab.fill(link_password="not my password")
    tab.press("Enter")
    expect(tab.at("#link-password-error")).to_have_text("This is not your current password.")
    expect(tab.at("#link-password")).to_be_focused()
    expect(tab.at("#link-password")).to_have_attribute("aria-invalid", "true")
    press(tab, "Cancel")
    expect(tab.page.get_by_role("button", name="Link Practice")).to_be_focused()
    expect(tab.at("#link-form")).to_be_hidden()
    expect(tab.at("#link-password")).to_have_value("")


def test_a_provider_that_does_not_answer_is_explained_on_the_page(visitor: Visitor) -> None:
    tab = visitor.arrive()
    link(tab, AWAY)
    words = f"{AWAY} is not responding. Try again in a moment."
    expect(tab.at("#link-form .form-error")).to_have_text(words)
    expect(tab.at("#link-form .form-error")).to_have_role("alert")
    tab.page.goto(f"{visitor.server.url}/oauth/away/login")
    expect(heading(tab)).to_have_text(f"{AWAY} is not responding.")
    expect(heading(tab).locator("b")).to_have_count(0)


@pytest.mark.slow
def test_too_many_guesses_are_explained(visitor: Visitor) -> None:
    tab = visitor.arrive()
    call = f"{visitor.server.url}/api/oauth/accounts/practice/link"
    guesses = """async (call) => {
      let status;
      do {
        const answer = await fetch(call, { method: 'POST', body: '{"current_password": "guess"}' });
        status = answer.status;
      } while (status === 403);
      return status;
    }"""
    assert tab.page.evaluate(guesses, call) == 429
    link(tab, "Practice")
    expect(tab.at("#link-form .form-error")).to_have_text("Too many at once. Wait a little.")


@pytest.mark.slow
def test_without_a_password_a_sign_in_of_just_now_will_do(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    press(tab, "Link Practice")
    consent(tab, visitor.email)
    tab.joined()
    expect(tab.at("#linked-status")).to_have_text("Practice is linked.")


@pytest.mark.slow
def test_without_a_password_and_some_time_later_one_signs_in_again(
    visitor: Visitor, op: Provider
) -> None:
    tab = arrive_by(visitor)
    grow_old(visitor)
    tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")
    press(tab, "Link Practice")
    expect(tab.at("#link-again-text")).to_be_focused()
    tab.page.get_by_role("link", name="Sign in again with Campus").click()
    tab.joined()
    assert op.at("authorize")[-1].query["prompt"] == "login"
    expect(tab.at("#linked-status")).to_have_text("You can link Practice now.")
    press(tab, "Link Practice")
    consent(tab, visitor.email)
    expect(tab.joined().at("#linked-status")).to_have_text("Practice is linked.")


@pytest.mark.slow
def test_nothing_is_offered_before_it_is_known_what_is_linked(
    visitor: Visitor, op: Provider
) -> None:
    held: list[Route] = []
    visitor.context.route("**/api/oauth/accounts", lambda route: held.append(route))  # noqa: PLW0108 it sets a member
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    assert tab.at("#link-choices button").count() == 0
    wait_until(lambda: tab.page.title() and held)
    visitor.context.unroute("**/api/oauth/accounts")
    for route in held:
        route.continue_()
    expect(tab.at("#linked-list li")).to_have_count(1)
    expect(tab.at("#link-choices button")).to_have_count(3)


def test_an_account_that_is_another_users_is_not_linked(
    visitor: Visitor, visit: Visit, op: Provider
) -> None:
    arrive_by(visit())
    tab = visitor.arrive()
    link(tab, "Campus")
    expect(heading(tab)).to_have_text("This account at Campus could not be linked.")
    expect(tab.page.get_by_role("link", name="Try again")).to_have_count(0)
    tab.page.get_by_role("link", name="Back to Usher").click()
    tab.joined()
    expect(tab.at("#linked-list li")).to_have_count(0)


@pytest.mark.slow
def test_unlinking_removes_the_method_and_leaves_this_session(
    visitor: Visitor, op: Provider
) -> None:
    tab = visitor.arrive()
    link(tab, "Campus")
    expect(tab.at("#linked-list li")).to_have_count(1)
    before = tab.joined().session_id
    press(tab, "Unlink Campus")
    expect(tab.at("#linked-status")).to_have_text("Campus is unlinked.")
    expect(tab.at("#linked-title")).to_be_focused()
    expect(tab.at("#linked-list li")).to_have_count(0)
    expect(tab.page.get_by_role("button", name="Link Campus")).to_be_visible()
    assert tab.joined().session_id == before
    wait_until(lambda: tab.page.title() and op.revoked)


@pytest.mark.slow
def test_an_account_is_unlinked_though_its_row_changes_during_the_press(
    visitor: Visitor, op: Provider
) -> None:
    tab = visitor.arrive()
    link(tab, "Campus")
    row = tab.at("#linked-list li", "Campus")
    fresh = address()
    with pressing(row.get_by_role("button")):
        rows(
            visitor.server,
            "UPDATE identities SET email = ? WHERE email = ?",
            fresh,
            op.user["email"],
        )
        tab.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        expect(row).to_contain_text(fresh)
    expect(tab.at("#linked-status")).to_have_text("Campus is unlinked.")


@pytest.mark.slow
def test_the_last_sign_in_method_cannot_be_removed(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    expect(tab.at("#linked-list li")).to_contain_text("your only way in")
    expect(tab.at("#linked-list li")).not_to_contain_text("signs you out")
    press(tab, "Unlink Campus")
    words = "This is the only way to sign in to your account. Add another one first."
    expect(tab.at("#linked-error")).to_have_text(words)
    expect(tab.at("#linked-error")).to_have_role("alert")
    expect(tab.at("#linked-list li")).to_have_count(1)
    tab.joined()


@pytest.mark.slow
@pytest.mark.parametrize("connected", [True, False])
def test_unlinking_the_provider_of_the_session_signs_out(
    visitor: Visitor, op: Provider, connected: bool
) -> None:
    tab = arrive_by(visitor)
    press(tab, "Link Practice")
    consent(tab, visitor.email)
    tab.joined()
    campus = tab.at("#linked-list li", "Campus")
    expect(campus).to_contain_text("unlinking it signs you out")
    if not connected:
        tab.toggle_socket()
        expect(tab.at("#state-text")).to_have_text("Disconnected")
        tab.area("Account")
    press(tab, "Unlink Campus")
    signed_out(tab, "Campus is unlinked, and this session came of it.")
    wait_until(lambda: credentials_of(visitor) == set())  # the socket ends before it is answered
    go_on(tab, "Practice")
    consent(tab, visitor.email)
    expect(tab.joined().at("#linked-list li")).to_have_count(1)


@pytest.mark.slow
def test_an_account_at_a_removed_provider_is_still_shown(
    database_kind: str, visit: Visit, op: Provider
) -> None:
    with usher(database_kind, **settings_for(op, "old-campus")) as server:
        sign_up(server)
        tab = arrive_by(visit(server), "Old Campus")
        server.environment["USHER_OAUTH_PROVIDERS"] = ""
        server.restart()
        tab.page.reload()
        tab.joined()
        expect(tab.at("#linked-list li strong")).to_have_text("Old Campus")
        expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Old Campus")
        expect(tab.at("#link-choices")).to_be_hidden()
        tab.page.close()


def test_page_and_server_call_a_provider_the_same(visitor: Visitor) -> None:
    names = ["old-campus", "a1-b2c", "x", "team-3d-print"]
    called = "async (names) => names.map((await import('/static/words.js')).usualTitle)"
    assert visitor.open().page.evaluate(called, names) == [usual_title(name) for name in names]


@pytest.mark.slow
def test_a_url_that_mentions_linking_claims_nothing(visitor: Visitor) -> None:
    visitor.arrive().page.close()
    for name, words in (("campus", "You can link Campus now."), ("%3Cb%3Ebold", "")):
        tab = visitor.open(f"/#link={name}").joined()
        expect(tab.at("#link-choices button")).to_have_count(4)
        expect(tab.at("#linked-status")).to_have_text(words)


# ---- the end of it ---------------------------------------------------------------------------


def test_a_back_channel_logout_ends_the_session_and_the_page_says_so(
    visitor: Visitor, visit: Visit, op: Provider
) -> None:
    other = visit().arrive()
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    path = "/oauth/campus/backchannel-logout"
    assert log_out_there(visitor.server, op.logout_token(), path).status == 200
    expect(tab.at("#notice")).to_be_focused()
    expect(tab.at("#notice-title")).to_have_text("You were signed out")
    expect(tab.at("#notice-text")).to_contain_text("Campus")
    expect(tab.at("#sign-in")).to_be_visible()
    [last] = tab.events("closing")
    assert (last["code"], last["reason"], last["retry"]) == (4410, "session_revoked", "login")
    wait_until(lambda: tab.page.title() and tab.sockets[-1].is_closed())
    assert len(tab.sockets) == 1, "it tried to come back"
    assert other.events("closing") == []
    go_on(tab, "Campus")
    tab.joined()


@pytest.mark.slow
def test_a_sign_out_mentions_the_provider(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    tab.at("#sign-out").click()
    signed_out(tab, "You may still be signed in at Campus.")
    assert not op.ended


@pytest.mark.slow
def test_a_call_that_is_refused_during_a_sign_out_does_not_take_its_words(
    visitor: Visitor, op: Provider
) -> None:
    late: list[tuple[Route, APIResponse]] = []
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    tab.page.route("**/api/auth/logout", lambda route: late.append((route, route.fetch())))
    tab.at("#sign-out").click()
    wait_until(lambda: tab.page.title() and late)
    with tab.page.expect_response("**/api/auth/refresh"):
        tab.page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange')); }")
    [(route, answer)] = late
    route.fulfill(response=answer)
    signed_out(tab, "You may still be signed in at Campus.")


@pytest.mark.slow
def test_a_user_can_sign_out_at_the_provider_too(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    press(tab, "Sign out of Campus too")
    expect(tab.at("#sign-in")).to_be_visible()
    wait_until(lambda: tab.page.title() and op.ended)
    [asked] = op.ended
    assert asked["id_token_hint"] == op.id_tokens[-1]
    assert asked["post_logout_redirect_uri"] == f"{visitor.server.url}/"
    tab.page.wait_for_url(f"{visitor.server.url}/")
    expect(tab.at("#sign-in")).to_be_visible()
    assert credentials_of(visitor) == set()


@pytest.mark.slow
def test_a_user_confirms_it_where_the_provider_asks(visitor: Visitor) -> None:
    tab = visitor.open()
    go_on(tab, "Practice")
    consent(tab, visitor.email)
    tab.joined()
    press(tab, "Sign out of Practice too")
    press(tab, "End session")
    tab.page.wait_for_url(f"{visitor.server.url}/")
    expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.slow
def test_a_provider_without_a_logout_endpoint_is_reported(visitor: Visitor) -> None:
    tab = arrive_by(visitor, "GitHub")
    expect(tab.at("#account-name")).to_have_text("Mona Lisa Octocat")
    press(tab, "Sign out of GitHub too")
    signed_out(tab, "You may still be signed in at GitHub.")


@pytest.mark.slow
def test_a_session_by_password_is_offered_no_provider_logout(visitor: Visitor) -> None:
    tab = visitor.arrive()
    expect(tab.at("#sessions li button")).to_have_count(1)


# ---- the page that says why not --------------------------------------------------------------


@pytest.mark.slow
def test_a_page_that_says_why_not_leads_on(visitor: Visitor, op: Provider) -> None:
    op.misbehave(id_token="nonce_wrong")
    tab = visitor.open()
    go_on(tab, "Campus")
    expect(heading(tab)).to_have_text("The response of Campus could not be verified.")
    expect(tab.page).to_have_title(re.compile(r"^The response of Campus .* Usher$"))
    op.behave()
    tab.page.get_by_role("link", name="Try again").click()
    tab.joined()


@pytest.mark.slow
def test_no_other_try_is_offered_where_it_would_end_the_same(
    visitor: Visitor, visit: Visit, op: Provider
) -> None:
    other = visit()
    other.arrive()
    op.user |= {"email": other.email, "email_verified": False}
    tab = visitor.open()
    go_on(tab, "Campus")
    expect(heading(tab)).to_have_text("There is no account here for your Campus account.")
    expect(tab.at(".ways a")).to_have_count(1)
    tab.page.get_by_role("link", name="Back to sign in").click()
    expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.slow
def test_no_page_mentions_a_missing_provider(visitor: Visitor) -> None:
    tab = visitor.open("/oauth/evil-corp/callback?error=access_denied")
    expect(heading(tab)).to_have_text("This page does not exist.")
    expect(tab.at(".ways a")).to_have_count(1)


# ---- for everybody ---------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_can_be_done_with_the_keyboard(visitor: Visitor, op: Provider) -> None:
    tab = visitor.open()
    expect(tab.at("#sign-in .providers a:visible")).to_have_count(4)
    tab.tab_to("#sign-in .providers a[href^='/oauth/campus/']")
    tab.press("Enter")
    tab.joined()
    expect(tab.at("#linked-list li")).to_have_count(1)
    tab.tab_to("#linked-list button")
    tab.press("Enter")
    expect(tab.at("#linked-error")).not_to_be_empty()
    tab.tab_to("#link-choices [data-provider=practice]")
    tab.press("Enter")
    consent(tab, visitor.email)
    tab.joined()
    expect(tab.at("#linked-list li")).to_have_count(2)
    tab.tab_to("#linked-list li:first-child button")
    tab.press("Enter")
    signed_out(tab, "Campus is unlinked")


def show(visitor: Visitor, view: str) -> Page:
    """A view with as much on it as there can be."""
    if view in ("sign-in", "sign-up"):
        tab = visitor.open(f"/#{view}")
        expect(tab.at(f"#{view} .providers a:visible")).to_have_count(4)
    elif view == "refused":
        tab = visitor.open("/oauth/away/login")
        expect(tab.at(".ways a")).to_have_count(2)
    elif view == "signed-in":
        tab = visitor.arrive()
        link(tab, AWAY)
        expect(tab.at("#link-form .form-error")).not_to_be_empty()
        tab.fill(link_password="")
        tab.at("#link-submit").click()
        expect(tab.at("#link-password-error")).not_to_be_empty()
    else:
        tab = arrive_by(visitor)
        grow_old(visitor)
        tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")
        press(tab, "Unlink Campus")
        press(tab, "Cancel")  # of the dialog that asks for a step-up
        expect(tab.at("#linked-error")).not_to_be_empty()
        press(tab, "Link Practice")
        expect(tab.at("#link-again a")).to_have_count(1)
    return tab.page


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_everything_has_a_name_a_size_and_contrast_in_light_and_dark(
    visitor: Visitor, op: Provider, view: str
) -> None:
    page = show(visitor, view)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert low_contrast(page) == [], scheme
    assert nameless(page) == []
    assert too_small(page) == []
    assert repeated_ids(page) == []
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.locator("h1:visible")).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_spills_over_the_side_of_a_small_screen(
    visitor: Visitor, op: Provider, view: str
) -> None:
    page = show(visitor, view)
    for width in (320, 768, 1280):
        page.set_viewport_size({"width": width, "height": 640})
        assert spilled(page) == [], width


@pytest.mark.slow
def test_the_page_that_says_why_not_needs_no_script(visitor: Visitor) -> None:
    page = show(visitor, "refused")
    assert page.locator("script").count() == 0
    assert "script-src 'self'" in page.request.get(page.url).headers["content-security-policy"]


@pytest.mark.slow
def test_what_becomes_of_a_link_is_announced(visitor: Visitor) -> None:
    tab = visitor.open()
    ways = tab.page.get_by_role("list", name="Other ways to sign in").get_by_role("link")
    expect(ways).to_have_count(4)
    tab = visitor.arrive()
    expect(tab.at("#linked-status")).to_have_role("status")
    expect(tab.at("#linked-error")).to_have_role("alert")
