"""A provider's form_post response in a real browser, across two sites."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import Browser, Request

from tests.support.browser import visitors
from tests.support.provider import provider
from tests.support.server import address, free_port, usher
from tests.support.sign_in import settings_for


def test_a_form_that_another_site_posts_signs_in_with_the_cookies_of_the_browser_that_began(
    browser: Browser, database_kind: str
) -> None:
    """127.0.0.1 and localhost are two sites: the POST itself brings no SameSite cookie."""
    port = free_port()
    with provider() as op:
        op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
        chosen = settings_for(op, "campus", PARAMETERS="response_mode=form_post")
        chosen |= {"PORT": port, "PUBLIC_URL": f"http://localhost:{port}"}
        with usher(database_kind, **chosen) as server, visitors(browser, server) as new:
            assert urlsplit(op.issuer).hostname == "127.0.0.1"
            tab = new().open(f"{server.origin}/")
            came: list[Request] = []
            tab.page.on("request", lambda one: came.append(one))  # noqa: PLW0108 it sets a member
            tab.at("#sign-up").get_by_role("link", name="Continue with Campus").click()
            tab.joined()
            back = [one for one in came if urlsplit(one.url).path == "/oauth/campus/callback"]
            assert [one.method for one in back] == ["POST", "GET"]
            posted, sent_on = [one.all_headers() for one in back]
            assert urlsplit(posted["origin"]).hostname == "127.0.0.1"
            assert "cookie" not in posted
            assert "cookie" in sent_on
            tab.page.reload()
            tab.joined()
