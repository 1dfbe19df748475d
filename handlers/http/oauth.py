"""Sign-in with a provider, for a browser: the redirect to the provider and the callback.

After a callback, the browser is in the app and signed in, or on an error page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tornado.template import Loader

from handlers.api import ApiHandler
from handlers.base import Site
from handlers.http.auth import SignInHandler
from handlers.http.forms import form_values
from handlers.http.pages import PAGE_HEADERS
from handlers.operations import operation
from handlers.page_files import PageFiles
from services.audit.events import Caller
from services.claims import Claims
from services.errors import (
    BadRequest,
    NotFound,
    TokenExpired,
    Unauthenticated,
    Unavailable,
    UsherError,
)
from services.native.requests import (
    CLIENT,
    NativeRequest,
    RedirectRefused,
    RequestRefused,
    answer_url,
    read_request,
    refusal_url,
)
from services.oauth.answers import refuse
from services.oauth.errors import ProviderUnavailable, Reason, SignInRefused
from services.providers.authorization_requests import (
    AUTHORIZATION_REQUEST_SECONDS,
    AuthorizationRequest,
    request_key,
)
from services.providers.flow import MAX_CODE_LENGTH, Answer, Begun
from services.settings.origins import LOCAL_NAMES, checked_next

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
ANSWER = ("state", "code", "error", "iss")
"""The parameters of a provider's response that are used; others are ignored."""
MAX_ANSWER_LENGTH = MAX_CODE_LENGTH
MAX_AUTHORIZATION_REQUESTS = 5
"""Sign-ins that one browser may have under way; the cookies of more are taken away."""
_WORTH_ANOTHER_TRY = frozenset(
    (
        Reason.DENIED,
        Reason.INTERACTION,
        Reason.REFUSED,
        Reason.STALE,
        Reason.UNAVAILABLE,
        Reason.NOT_NOW,
        Reason.UNTRUSTED,
        Reason.NO_EMAIL,
        Reason.NOT_ALLOWED,
    )
)


class AuthorizationRequestHandler(ApiHandler):
    """Stores authorization requests in cookies of the browser."""

    def request_cookie(self, key: str) -> str:
        """The name of the cookie of an authorization request."""
        return self.site.cookies.authorization_request + key

    def kept_requests(self) -> list[str]:
        """All encrypted authorization requests in the browser's cookies."""
        mine = self.site.cookies.authorization_requests(self.cookies)
        return [self.cookies[name].value for name in mine]

    def is_other_host(self) -> bool:
        """Whether the browser used another name of this host than that of the redirect URI: the
        callback would receive none of its cookies."""
        public = urlsplit(self.site.origins.public_url).hostname
        asked = (self.address().host or "").partition(":")[0]
        return asked != public and {asked, public} <= LOCAL_NAMES

    def set_request_cookie(self, begun: Begun) -> None:
        """Store an authorization request in a cookie, and remove the oldest beyond the limit."""
        mine = self.site.cookies.authorization_requests(self.cookies)
        for name in mine[: max(0, len(mine) - MAX_AUTHORIZATION_REQUESTS + 1)]:
            self.site.cookies.clear_authorization_request(self, name)
        name = self.request_cookie(begun.key)
        self.site.cookies.set_authorization_request(
            self, name, begun.sealed.reveal(), AUTHORIZATION_REQUEST_SECONDS
        )


class OAuthHandler(AuthorizationRequestHandler, SignInHandler):
    """A resource that a browser navigates to: it redirects, or shows an error page."""

    provider = ""
    next: str
    """Where the browser goes after the sign-in."""
    native: NativeRequest | None = None
    """The request of a native app, if there is one. Errors are then sent to the app."""

    def initialize(self, site: Site) -> None:
        super().initialize(site)
        self.next = site.origins.home

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show an error page, because a person navigated here, or redirect to the native app with
        the error (RFC 6749 section 4.1.2.1)."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        native = error.request if isinstance(error, RequestRefused) else self.native
        if native is not None:
            refused = error if isinstance(error, UsherError) else UsherError()
            self.set_status(302)
            self.set_header("Cache-Control", "no-store")
            self.go_to(refusal_url(native, self.site.origins.public_url, refused))
            self.finish()
            return
        if not isinstance(error, UsherError):
            super().write_error(status_code, **kwargs)
            return
        provider = self.services.oauth.providers.title(self.provider or "the provider")
        if isinstance(error, SignInRefused):
            reason, status = error.reason, error.status
            if error.retry_after is not None:
                self.set_header("Retry-After", str(error.retry_after))
        else:
            reason, status = _reason_of(error), error.status
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.set_header("Cache-Control", "no-store")
        signed_in = self._signed_in_as() is not None
        page = self.site.pages.load("oauth_refused.html").generate(
            brand=self.site.branding,
            title=reason.title_for(provider),
            advice=reason.advice_for(provider),
            code=reason.code,
            # A signed-in user came to link an account, and a sign-in would lead elsewhere.
            again=None if signed_in else self._retry_url(reason),
            back="Back to Usher" if signed_in else "Back to sign in",
            back_to=self._back_to(signed_in),
        )
        self.finish(page)

    def _back_to(self, signed_in: bool) -> str:
        home = self.site.origins.home
        if signed_in or self.next == home:
            return home
        return self.at(f"/sign-in?{urlencode({'next': self.next})}")

    def _retry_url(self, reason: Reason) -> str | None:
        """The URL to try again with, if that may help."""
        if reason not in _WORTH_ANOTHER_TRY or self.provider not in self.services.oauth.providers:
            return None
        # The provider would return the same account or error again, without a prompt.
        asking = reason in (Reason.NOT_ALLOWED, Reason.INTERACTION)
        query = {} if self.next == self.site.origins.home else {"next": self.next}
        query |= {"prompt": "login"} if asking else {}
        return self.at(f"/oauth/{self.provider}/login{'?' if query else ''}{urlencode(query)}")

    def given(self) -> dict[str, list[str]]:
        """The query as sent. Invalid UTF-8 is replaced, so that no parameter accepts it."""
        return {
            name: [value.decode(errors="replace") for value in values]
            for name, values in self.request.query_arguments.items()
        }

    def read_native(self) -> NativeRequest | None:
        """The native app's request, if there is one.

        Raises:
            RedirectRefused, RequestRefused: the app's request is invalid.
        """
        given = self.given()
        if CLIENT not in given.get("client", ()):
            return None
        listed = self.services.infrastructure.settings.native_redirect_uris
        self.native = read_request(given, listed)
        return self.native

    def _signed_in_as(self) -> Claims | None:
        """The user that the browser is signed in as. The token may have expired meanwhile."""
        token = self.get_cookie(self.site.cookies.access)
        if not token:
            return None
        try:
            return self.services.admission.verify(token)
        except TokenExpired as error:
            return error.claims
        except Unauthenticated:
            return None


def _reason_of(error: UsherError) -> Reason:
    """The message for an error that does not come from the sign-in flow."""
    if isinstance(error, RedirectRefused):
        return Reason.NO_APP
    if isinstance(error, ProviderUnavailable):
        return Reason.UNAVAILABLE
    return Reason.NOT_NOW if isinstance(error, Unavailable) else Reason.NO_SUCH


class OAuthLoginHandler(OAuthHandler):
    @operation(
        "Redirect the browser to a provider, to sign in there. Afterwards, the browser is signed "
        "in at `next`. A native app (RFC 8252) gets `code`, `state` and `iss`, or `error`, at its "
        "redirect URI.",
        access="anyone",
        status=302,
        errors=(NotFound, BadRequest, ProviderUnavailable),
        query={
            "next": "where to go afterwards: a path of this host, or a page of an allowed origin; "
            "by default the front page",
            "prompt": "`login`: the provider is to reauthenticate the user",
            "client": "`native`: for a native app, with the parameters below",
            "redirect_uri": "`http://127.0.0.1` or `http://[::1]` with any port and path, or one "
            "of NATIVE_REDIRECT_URIS",
            "state": "returned unchanged",
            "code_challenge": "RFC 7636",
            "code_challenge_method": "`S256`",
        },
        media_type="text/html",
    )
    async def get(self, provider: str) -> None:
        self.provider = provider
        origins = self.site.origins
        native = self.read_native()
        if native is None:
            self.next = checked_next(self.get_query_argument("next", self.next), origins)
        elif self.request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # Another site may link here, so the user must first see which app requests the sign-in.
            self.go_to(self.at(f"/sign-in?{self.request.query}"))
            return
        prompt = "login" if self.get_query_argument("prompt", "") == "login" else None
        if self.is_other_host():
            self.go_to(f"{origins.public_url}{self.request.uri}")
            return
        flow = self.services.oauth.flow
        begun = await flow.begin(provider, self.next, prompt=prompt, native=native)
        self.set_request_cookie(begun)
        self.go_to(begun.url)


class OAuthCallbackHandler(OAuthHandler):
    signs_in = True

    @operation(
        "The callback of a provider. Afterwards, the browser is signed in at `next`, or on an "
        "error page; a native app gets the result at its redirect URI.",
        access="anyone",
        status=302,
        errors=(NotFound, SignInRefused, Unavailable),
        query={
            "state": "as sent",
            "code": "of the provider (RFC 6749 section 4.1.2)",
            "error": "in its place",
            "iss": "who answers (RFC 9207)",
        },
        media_type="text/html",
    )
    async def get(self, provider: str) -> None:
        self.services.oauth.providers.get(provider)  # pages do not name providers that do not exist
        self.provider = provider
        answer = Answer(
            self._only("state") or "",
            self._only("code") or "",
            self._only("error") or "",
            self._only("iss"),
        )
        if not answer.state and answer.error:
            # Some providers omit the state in errors. That is safe: an error grants nothing.
            self._is_for(self.services.oauth.flow.newest(provider, self.kept_requests()))
            refuse(answer.error)
        cookie = self.request_cookie(request_key(answer.state))
        sealed = self.get_cookie(cookie) or ""
        if sealed:
            self.site.cookies.clear_authorization_request(self, cookie)
        flow = self.services.oauth.flow
        self._is_for(flow.began(provider, sealed, answer.state))
        claims = self._signed_in_as()
        device = self.device("browser" if self.native is None else CLIENT)
        finished = await flow.finish(
            provider, sealed, answer, device, claims.sid if claims else None
        )
        if finished.signed_in is not None and finished.native is not None:
            code = await self.services.native_codes.for_signed_in(
                finished.signed_in, finished.native
            )
            issuer = self.site.origins.public_url
            self.go_to(answer_url(finished.native, issuer, code=code.reveal()))
            return
        if finished.signed_in is not None:
            self.signed_in(finished.signed_in, "browser")
        elif claims is not None:
            self.services.audit.acting(Caller(claims.sub, claims.sid, self.address().ip))
            self.services.audit.record("identity.linked", subject=claims.sub, target=provider)
        self.go_to(finished.next)

    @operation(
        "The same as a form that the provider's page posts (`response_mode=form_post`): the "
        "browser is redirected to this URL with the form's parameters.",
        access="anyone",
        status=303,
        errors=(NotFound, SignInRefused),
        form={
            "state": "as sent",
            "code": "of the provider (RFC 6749 section 4.1.2)",
            "error": "in its place",
            "iss": "who answers (RFC 9207)",
        },
        media_type="text/html",
    )
    async def post(self, provider: str) -> None:
        self.services.oauth.providers.get(provider)
        self.provider = provider
        brought: dict[str, str] = {}
        for name in ANSWER:
            values = form_values(self.request, name)
            if len(values) > 1 or sum(map(len, values)) > MAX_ANSWER_LENGTH:
                raise SignInRefused(Reason.UNTRUSTED, f"callback: {name} more than once, or long")
            brought |= dict.fromkeys([name] if values else [], "".join(values))
        # A page of the provider has posted the form, so SameSite cookies were not sent. They are
        # sent when the browser follows the redirect.
        self.go_to(self.at(f"{self.request.path}?{urlencode(brought)}"))

    def _is_for(self, began: AuthorizationRequest | None) -> None:
        if began is not None:
            self.next, self.native = began.next, began.native

    def refuse_foreign_page(self) -> None:
        """Allow a post by the provider's page, which only leads to a redirect."""

    def _only(self, name: str) -> str | None:
        """A parameter that may occur only once (RFC 6749 section 3.1)."""
        values = self.get_query_arguments(name, strip=False)
        if len(values) > 1:
            raise SignInRefused(Reason.UNTRUSTED, f"callback: {name} more than once")
        return values[0] if values else None


def load_pages(files: PageFiles) -> Loader:
    """The templates of pages. `file` in them is where a file of the front end is loaded from, and
    `root` is the path of PUBLIC_URL, which links begin with."""
    return Loader(str(TEMPLATES), namespace={"file": files.url, "root": files.path})
