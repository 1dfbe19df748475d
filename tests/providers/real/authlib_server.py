"""PyPI Authlib: an authorization server of its parts, in Flask, as its documentation builds one."""

from __future__ import annotations

from typing import ClassVar

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.provider import EMAIL, TOKEN_SECONDS, RealProvider
from tests.providers.real.servers import server_text

VERSION, FLASK = "1.9.10", "3.1.3"
SERVER = server_text("authlib.py.in")


class Authlib(RealProvider):
    title = "Authlib"
    package = f"PyPI Authlib {VERSION}, Flask {FLASK}"
    client = "`client_secret_basic`; its metadata name no method"
    settings: ClassVar = {}

    def start(self) -> None:
        programs = self.place.pip(f"Authlib=={VERSION}", f"Flask=={FLASK}")
        reported = (self.issuer, self.client_id, self.client_secret, self.redirect_uri, EMAIL)
        script = self.place.write("server.py", SERVER % ((*reported, TOKEN_SECONDS), self.port))
        self.place.start(
            [programs / "python", script], f"{self.issuer}/.well-known/openid-configuration"
        )

    def sign_in(self, browser: FormBrowser, page: Page) -> Page:
        form = page.form("user")
        return page if form is None else browser.submit(page, form, {"user": "ada"})
