"""npm oidc-provider, with its own pages for development."""

from __future__ import annotations

import json
from typing import ClassVar

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.provider import EMAIL, PASSWORD, TOKEN_SECONDS, RealProvider
from tests.providers.real.servers import server_text

VERSION = "9.13.3"
SERVER = server_text("oidc_provider.mjs.in")


class OidcProviderOfNpm(RealProvider):
    title = "oidc-provider"
    package = f"npm oidc-provider {VERSION}"
    client = "`client_secret_basic`, its default"
    settings: ClassVar = {"SCOPES": "openid,email,profile,offline_access"}
    has_backchannel = True

    def start(self) -> None:
        self.place.npm(f"oidc-provider@{VERSION}")
        chosen = {
            "issuer": self.issuer,
            "port": self.port,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "redirect_uri": self.redirect_uri,
            "after_logout": self.after_logout,
            "backchannel_uri": self.backchannel_uri,
            "seconds": TOKEN_SECONDS,
            "email": EMAIL,
        }
        script = self.place.write("server.js", SERVER % json.dumps(chosen))
        self.place.start(["node", script], f"{self.issuer}/.well-known/openid-configuration")

    def sign_in(self, browser: FormBrowser, page: Page) -> Page:
        if form := page.form("login", "password"):
            page = browser.submit(page, form, {"login": "ada", "password": PASSWORD})
        if form := page.form("prompt"):
            page = browser.submit(page, form, {})
        return page

    def confirm_logout(self, browser: FormBrowser, page: Page) -> Page:
        form = page.form("xsrf")
        return page if form is None else browser.submit(page, form, {"logout": "yes"})

    def sign_out(self, browser: FormBrowser) -> None:
        self.confirm_logout(browser, browser.open(f"{self.issuer}/session/end"))
