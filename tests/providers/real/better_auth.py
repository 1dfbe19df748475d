"""npm better-auth with @better-auth/oauth-provider; its user has to write the pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urljoin, urlsplit

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.provider import EMAIL, PASSWORD, TOKEN_SECONDS, RealProvider
from tests.providers.real.servers import server_text

VERSION = "1.7.5"
SERVER = server_text("better_auth.mjs.in")


class BetterAuth(RealProvider):
    title = "Better Auth"
    package = f"npm better-auth and @better-auth/oauth-provider {VERSION}"
    client = "`client_secret_basic`, its default; `enable_end_session`"
    settings: ClassVar = {"SCOPES": "openid,email,profile,offline_access"}
    no_backchannel = "not run: it takes https addresses only"

    def start(self) -> None:
        self.issuer = f"{self.origin}/api/auth"
        self.place.npm(
            f"better-auth@{VERSION}",
            f"@better-auth/core@{VERSION}",
            f"@better-auth/oauth-provider@{VERSION}",
        )
        chosen = {
            "origin": self.origin,
            "port": self.port,
            "redirect_uri": self.redirect_uri,
            "after_logout": self.after_logout,
            "seconds": TOKEN_SECONDS,
            "email": EMAIL,
            "password": PASSWORD,
        }
        script = self.place.write("server.js", SERVER % json.dumps(chosen))
        self.place.start(["node", script], f"{self.issuer}/.well-known/openid-configuration")
        client = json.loads((self.place.folder / "client.json").read_text("utf-8"))
        self.client_id, self.client_secret = client["client_id"], client["client_secret"]

    def sign_in(self, browser: FormBrowser, page: Page) -> Page:
        at = urlsplit(page.url)
        if at.path == "/login":
            body = {"email": EMAIL, "password": PASSWORD, "oauth_query": at.query}
            page = self._tell(browser, "/sign-in/email", body)
            at = urlsplit(page.url)
        if at.path == "/consent":
            page = self._tell(browser, "/oauth2/consent", {"accept": True, "oauth_query": at.query})
        return page

    def _tell(self, browser: FormBrowser, path: str, body: Mapping[str, object]) -> Page:
        """What the application's page would send, and where it goes then."""
        answer = browser.call("POST", self.issuer + path, self.origin, body)
        found = answer.json()
        url = found.get("url") or found.get("redirect_uri")
        assert url, (answer.status_code, answer.text)
        return browser.open(urljoin(self.origin, url))
