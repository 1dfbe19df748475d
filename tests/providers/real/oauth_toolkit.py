"""PyPI django-oauth-toolkit, in a Django project of one file."""

from __future__ import annotations

from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.provider import EMAIL, PASSWORD, TOKEN_SECONDS, RealProvider
from tests.providers.real.servers import server_text

VERSION, DJANGO = "3.4.1", "5.2.19"
SITE = server_text("oauth_toolkit.py.in")
CLAIMS = """
from oauth2_provider.oauth2_validators import OAuth2Validator

class Claims(OAuth2Validator):
    oidc_claim_scope = None
    def get_additional_claims(self, request):
        return {"email": request.user.email, "email_verified": True, "name": "Ada Lovelace"}
"""
LOGIN = '<form method="post">{% csrf_token %}{{ form }}<button>Log in</button></form>'


class DjangoOAuthToolkit(RealProvider):
    title = "Django OAuth Toolkit"
    package = f"PyPI django-oauth-toolkit {VERSION}, Django {DJANGO}"
    client = "either; `OIDC_RP_INITIATED_LOGOUT_ENABLED` on"
    settings: ClassVar = {}

    def start(self) -> None:
        self.issuer = f"{self.origin}/o"
        programs = self.place.pip(f"django-oauth-toolkit=={VERSION}", f"Django=={DJANGO}")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.place.write("key.pem", pem)
        self.place.write("templates/login.html", LOGIN)
        text = SITE
        for name, value in (
            ("TOKEN_SECONDS", str(TOKEN_SECONDS)),
            ('"EMAIL"', repr(EMAIL)),
            ('"PASSWORD"', repr(PASSWORD)),
            ('"CLIENT_ID"', repr(self.client_id)),
            ('"CLIENT_SECRET"', repr(self.client_secret)),
            ('"REDIRECT_URI"', repr(self.redirect_uri)),
            ('"AFTER_LOGOUT"', repr(self.after_logout)),
        ):
            text = text.replace(name, value)
        self.place.write("claims_of_tests.py", CLAIMS)
        site = self.place.write("site_of_tests.py", text)
        self.place.run([programs / "python", site, "make"])
        self.place.start(
            [programs / "python", site, str(self.port)],
            f"{self.issuer}/.well-known/openid-configuration",
        )

    def sign_in(self, browser: FormBrowser, page: Page) -> Page:
        if form := page.form("username", "password"):
            page = browser.submit(page, form, {"username": "ada", "password": PASSWORD})
        if form := page.form("allow"):
            page = browser.submit(page, form, {}, "allow")
        return page

    def confirm_logout(self, browser: FormBrowser, page: Page) -> Page:
        form = page.form("allow")
        return page if form is None else browser.submit(page, form, {}, "allow")
