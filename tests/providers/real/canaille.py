"""PyPI Canaille, with its SQL backend and its own pages."""

from __future__ import annotations

from typing import ClassVar

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.provider import EMAIL, PASSWORD, TOKEN_SECONDS, RealProvider

VERSION = "0.3.6"
CONFIG = """
SECRET_KEY = "of the tests"
PREFERRED_URL_SCHEME = "http"
[OAUTH2_TOKEN_EXPIRES_IN]
authorization_code = {seconds}
refresh_token = {seconds}
[CANAILLE]
DATABASE = "sql"
[CANAILLE_SQL]
DATABASE_URI = "sqlite:///{database}"
[CANAILLE_OIDC]
"""


class Canaille(RealProvider):
    title = "Canaille"
    package = f"PyPI canaille {VERSION}"
    client = "`client_secret_basic`, its default; signed user info"
    settings: ClassVar = {}
    tries = 3
    """Two tokens of one second are one too many, see findings/canaille-same-second.sh."""

    def start(self) -> None:
        self.issuer = f"{self.origin}/"
        programs = self.place.pip(f"canaille[front,oidc,server,sqlite]=={VERSION}")
        database = self.place.folder / "canaille.sqlite"
        config = self.place.write(
            "canaille.toml", CONFIG.format(seconds=TOKEN_SECONDS, database=database)
        )
        environment = {"CANAILLE_CONFIG": str(config)}
        canaille = programs / "canaille"

        def tell(*words: str) -> None:
            self.place.run([canaille, *words], environment=environment)

        tell("db", "upgrade")
        tell(
            "create", "user", "--user-name", "ada", "--password", PASSWORD, "--emails", EMAIL,
            "--family-name", "Lovelace", "--formatted-name", "Ada Lovelace",
        )  # fmt: skip
        tell(
            "create", "client", "--client-id", self.client_id, "--client-secret",
            self.client_secret, "--client-name", "Usher", "--client-uri",
            "https://usher.example.org/", "--redirect-uris", self.redirect_uri,
            "--post-logout-redirect-uris", self.after_logout, "--grant-types",
            "authorization_code", "--grant-types", "refresh_token", "--response-types", "code",
            "--scope", "openid", "--scope", "email", "--scope", "profile",
            "--token-endpoint-auth-method", "client_secret_basic",
            "--userinfo-signed-response-alg", "RS256",
        )  # fmt: skip
        # As its own pages and its registration endpoint do it.
        tell("set", "client", self.client_id, "--audience", self.client_id)
        bind = f"127.0.0.1:{self.port}"
        self.place.start(
            [canaille, "run", "--bind", bind],
            f"{self.origin}/.well-known/openid-configuration",
            environment,
        )

    def sign_in(self, browser: FormBrowser, page: Page) -> Page:
        if form := page.form("login"):
            page = browser.submit(page, form, {"login": "ada"})
        if form := page.form("password"):
            page = browser.submit(page, form, {"password": PASSWORD})
        if form := page.form("answer"):
            page = browser.submit(page, form, {}, "accept")
        return page

    def confirm_logout(self, browser: FormBrowser, page: Page) -> Page:
        form = page.form("answer")
        return page if form is None else browser.submit(page, form, {}, "logout")
