"""The pages `/sign-in`, which other apps redirect to, and `/set-password`, which a one-time link
opens, and their branding."""

from __future__ import annotations

import msgspec

from handlers.base import BaseHandler
from handlers.http.oauth import OAuthHandler
from handlers.http.pages import PageHandler, send_page
from handlers.page.front_page import signed_in, start_of
from services.errors import BadRequest, NotFound
from services.native.requests import (
    NativeRequest,
    answer_url,
    is_on_this_machine,
    shown_target,
)
from services.settings.branding import stylesheet
from services.settings.origins import checked_next

IMAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""An SVG that is opened by itself is a document: no script in it runs."""


class SignInPageHandler(OAuthHandler):
    """The sign-in page. Every way to sign in leads to `next`, or to a native app's redirect URI."""

    async def get(self) -> None:
        native = self.read_native()
        if native is None:
            self.next = self._next()
            if await signed_in(self) is not None:
                self.set_status(302)
                self.go_to(self.next)
                return
        send_page(
            self,
            "sign_in.html",
            start=msgspec.json.encode(await start_of(self)).decode(),
            next=self.next,
            goes_to=self._elsewhere_shown(),
            app=None if native is None else shown_target(native.redirect_uri),
            on_this_machine=native is not None and is_on_this_machine(native.redirect_uri),
            query="" if native is None else msgspec.json.encode(_query(native)).decode(),
            cancel="" if native is None else self._cancel(native),
        )

    def _next(self) -> str:
        """The URL to go to after the sign-in; the front page if the given one is not of an allowed
        origin."""
        asked = self.given().get("next", [])
        try:
            return checked_next(asked[0], self.site.origins) if len(asked) == 1 else self.next
        except BadRequest:
            return self.next

    def _elsewhere_shown(self) -> str:
        """The host of the next page, if it is of another origin."""
        if self.next.startswith("/"):
            return ""
        origin = "/".join(self.next.split("/")[:3])
        return "" if self.site.origins.is_own(origin) else shown_target(self.next)

    def _cancel(self, native: NativeRequest) -> str:
        issuer = self.site.origins.public_url
        return answer_url(native, issuer, error="access_denied", error_description="cancelled")


class SetPasswordPageHandler(PageHandler):
    """The page of a one-time link. It is the same for all links, because browsers do not send the
    fragment, which has the token; the page's script sends it."""

    def get(self) -> None:
        send_page(self, "set_password.html")

    head = get


class MailPageHandler(PageHandler):
    """The pages around mails: to ask for one, and those that their links open."""

    def get(self, page: str) -> None:
        send_page(self, "mail_page.html", page=page)

    head = get


class ThemeHandler(BaseHandler):
    """The colours of the pages, in a separate file: their policy allows no inline styles."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/css; charset=UTF-8")
        self.set_header("Cache-Control", "no-cache")
        self.write(stylesheet(self.site.branding))

    head = get


class LogoHandler(BaseHandler):
    """Serves APP_LOGO, if it is a file."""

    def get(self) -> None:
        logo = self.site.branding.logo
        if logo is None or not logo.content:
            raise NotFound("no logo is set")
        self.set_header("Content-Type", logo.media_type)
        self.set_header("Content-Security-Policy", IMAGE_POLICY)
        self.set_header("Cache-Control", "no-cache")
        self.write(logo.content)

    head = get


def _query(native: NativeRequest) -> dict[str, str]:
    """What `POST /api/auth/native-code` takes, and a provider's way in."""
    asked = {
        "client": "native",
        "redirect_uri": native.redirect_uri,
        "code_challenge": native.challenge,
        "code_challenge_method": "S256",
    }
    return asked if native.state is None else {**asked, "state": native.state}
