"""Native apps: the one-time code that the bundled page requests, and its exchange for tokens."""

from __future__ import annotations

from typing import Annotated

import msgspec

from handlers.api import ApiHandler
from handlers.http.auth import NativeSignIn, SignInHandler
from handlers.http.oauth_accounts import GoThere
from handlers.operations import operation
from services.audit.events import Caller
from services.errors import Forbidden, OriginRefused, RateLimited, Unauthenticated
from services.native.codes import MAX_CODE_LENGTH
from services.native.requests import CLIENT, MAX_URI_LENGTH, answer_url, read_request

MAX_VERIFIER_LENGTH = 128


class AskNativeCode(msgspec.Struct):
    """The members of the query that the page was opened with."""

    redirect_uri: str
    code_challenge: str
    code_challenge_method: str
    state: str | None = None


class Exchange(msgspec.Struct):
    """`code_verifier`: the one that `code_challenge` was derived from (RFC 7636). `redirect_uri`:
    the one that the code was sent to."""

    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE_LENGTH)]
    code_verifier: Annotated[str, msgspec.Meta(max_length=MAX_VERIFIER_LENGTH)]
    redirect_uri: Annotated[str, msgspec.Meta(max_length=MAX_URI_LENGTH)]


class NativeCodeHandler(ApiHandler):
    @operation(
        "Issue a code to a native app for the signed-in user. For the bundled page only: it needs "
        "both cookies, and accepts no bearer token.",
        body=AskNativeCode,
        answer=GoThere,
        errors=(Forbidden, OriginRefused, RateLimited),
    )
    async def post(self, body: AskNativeCode) -> GoThere:
        given = {name: [text] for name, text in msgspec.structs.asdict(body).items() if text}
        listed = self.services.infrastructure.settings.native_redirect_uris
        request = read_request(given, listed)
        refresh_token = self.get_cookie(self.site.cookies.refresh)
        if not refresh_token:
            raise Unauthenticated("native code: no refresh token beside the access token")
        code = await self.services.native_codes.for_browser(
            self.identity.claims, refresh_token, request, self.device(CLIENT)
        )
        return GoThere(answer_url(request, self.site.origins.public_url, code=code.reveal()))

    def access_token(self) -> str:
        """The access token of the cookie. A bearer token must not be turned into a login session,
        which would outlive it.

        Raises:
            Forbidden: there is a token in the header.
            Unauthenticated, OriginRefused: as in the base class.
        """
        if "Authorization" in self.request.headers:
            raise Forbidden("native code: asked for by a program")
        return super().access_token()

    def require_own_page(self) -> None:
        """Refuse all pages but the bundled one, which asks the user. Other allowed origins may use
        the cookies, but not turn them into tokens.

        Raises:
            OriginRefused: it comes from another page, or its origin is not stated.
        """
        headers = self.request.headers
        origin = headers.get("Origin")
        if not self.site.origins.is_own(origin) and (
            origin is not None or headers.get("Sec-Fetch-Site") != "same-origin"
        ):
            raise OriginRefused("native code: not asked for by the bundled page")


class ExchangeHandler(SignInHandler):
    signs_in = True

    @operation(
        "Exchange the code of a native sign-in for its tokens. A code works once, within a minute, "
        "and only with its verifier; a second use ends the login session that came of it.",
        access="anyone",
        body=Exchange,
        answer=NativeSignIn,
        errors=(Unauthenticated, RateLimited),
    )
    async def post(self, body: Exchange) -> NativeSignIn:
        result = await self.services.native_codes.exchange(
            body.code, body.code_verifier, body.redirect_uri, self.device(CLIENT)
        )
        claims = result.claims
        self.services.audit.acting(Caller(claims.sub, claims.sid, self.address().ip))
        self.services.audit.record("session.exchanged", subject=claims.sub, session=claims.sid)
        answer = self.signed_in(result, "native")
        assert isinstance(answer, NativeSignIn)
        return answer
