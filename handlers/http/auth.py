"""Sign-up, sign-in, sign-out, token refresh, and the caller's own account."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Literal

import msgspec

from handlers.api import ApiHandler
from handlers.operations import ACCEPTED, Accepted, operation
from services.audit.events import Caller
from services.claims import Claims
from services.errors import (
    EmailDomainRefused,
    EmailUnverified,
    InvitationNeeded,
    InvitationRefused,
    LinkRefused,
    NotFound,
    RateLimited,
    ReauthenticationNeeded,
    SecondFactorNeeded,
    SignupClosed,
    SignupRefused,
    StepUpNeeded,
    TokenExpired,
    Unauthenticated,
    WeakPassword,
    WrongPassword,
)
from services.registration.registration import Mode
from services.sessions.logout_ack import Outcome
from services.sessions.session_views import Profile, SignedIn

Client = Literal["browser", "native"]


class SignUp(msgspec.Struct):
    """`invitation`: the token after `#invitation=` in an invitation link."""

    email: str
    password: str
    name: str
    client: Client = "browser"
    invitation: str = ""


class LogIn(msgspec.Struct):
    """`device`: for a native client, the `device` of an earlier sign-in's response. With it, the
    user can sign in even while others guess passwords of the account."""

    email: str
    password: str
    client: Client = "browser"
    device: str = ""


class Refresh(msgspec.Struct):
    """`refresh_token`: omitted by a browser, whose cookie has it."""

    refresh_token: str | None = None


class ChangePassword(msgspec.Struct):
    """`current_password`: omitted if the account has none, because the user signs in with a
    provider. That needs a step-up."""

    new_password: str
    current_password: str | None = None


class ResetPassword(msgspec.Struct):
    """`token`: the token after `#token=` in the link."""

    token: str
    new_password: str


class BrowserSignIn(msgspec.Struct, frozen=True):
    """A browser's tokens are in its cookies. `expires_in`: seconds of the access token."""

    user: Profile
    expires_in: int | float


class NativeSignIn(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 6749 section 5.1, with the user. `expires_in`: seconds of the access token. `device`: of
    a sign-in, not of a refresh: to be kept, and presented at the next sign-in."""

    user: Profile
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int | float
    refresh_token: str
    device: str = ""


def whole(seconds: float) -> int | float:
    """Seconds as an integer if possible, because many clients expect one (RFC 6749 section 5.1)."""
    return int(seconds) if seconds == int(seconds) else seconds


class SignInHandler(ApiHandler):
    """The base of handlers that respond with tokens."""

    def signed_in(self, result: SignedIn, client: Client) -> BrowserSignIn | NativeSignIn:
        """The response to a sign-in: the tokens, and the device token."""
        answer = self.with_tokens(result, client)
        devices, address = self.services.accounts.devices, result.user.email
        if isinstance(answer, NativeSignIn):
            return msgspec.structs.replace(answer, device=devices.token(address))
        kept = self.get_cookie(self.site.cookies.device) or ""
        self.site.cookies.set_device(self, devices.keep(kept, address))
        return answer

    def with_tokens(self, result: SignedIn, client: Client) -> BrowserSignIn | NativeSignIn:
        """Put tokens into cookies for a browser, into the body for other clients; never both."""
        now = time.time()
        seconds = whole(round(result.claims.exp - result.claims.iat, 3))
        if client == "native":
            return NativeSignIn(
                result.user,
                result.access_token.reveal(),
                "Bearer",
                seconds,
                result.refresh_token.reveal(),
            )
        cookies = self.site.cookies
        # The cookie outlives its token: only a genuine, expired one distinguishes 4419 from 4401.
        lasting = result.refresh_expires_at - now
        cookies.set_access(self, result.access_token.reveal(), lasting)
        cookies.set_refresh(self, result.refresh_token.reveal(), lasting)
        return BrowserSignIn(result.user, seconds)


class WhoMaySignUp(msgspec.Struct, frozen=True):
    """`signup`: `open`, `invite` or `closed`; `open` as long as there is no account at all.
    `renewable`: whether this browser has a refresh token's cookie; a page without one need not try
    to renew anything."""

    signup: Mode
    renewable: bool


class SignUpHandler(SignInHandler):
    @operation("Who may open an account, for a page.", access="anyone", answer=WhoMaySignUp)
    async def get(self) -> WhoMaySignUp:
        renewable = bool(self.get_cookie(self.site.cookies.refresh))
        return WhoMaySignUp(await self.services.registration.rules.mode_now(), renewable)

    @operation(
        "Open an account and sign it in. The first one of all becomes administrator. Where the "
        "address must be confirmed first, the answer is the same for every address.",
        access="anyone",
        body=SignUp,
        status=201,
        answer=BrowserSignIn | NativeSignIn,
        errors=(
            WeakPassword,
            SignupRefused,
            SignupClosed,
            InvitationNeeded,
            InvitationRefused,
            EmailDomainRefused,
            RateLimited,
        ),
        audit="account.created",
        accepts=True,
    )
    async def post(self, body: SignUp) -> BrowserSignIn | NativeSignIn | Accepted:
        accounts, recovery = self.services.accounts, self.services.recovery
        if recovery.verification.mode == "required":
            await recovery.sign_ups.ask(
                body.email, body.password, body.name, self.client_ip, body.invitation
            )
            return ACCEPTED
        result = await accounts.sign_up(
            body.email, body.password, body.name, self.device(body.client), body.invitation
        )
        return self.signed_in(result, body.client)


class LogInHandler(SignInHandler):
    signs_in = True

    @operation(
        "Sign in with a password. With a second factor the answer is 401 `second_factor_needed` "
        "with a `challenge` for `/api/auth/second-factor`.",
        access="anyone",
        body=LogIn,
        answer=BrowserSignIn | NativeSignIn,
        errors=(Unauthenticated, SecondFactorNeeded, EmailUnverified, RateLimited),
    )
    async def post(self, body: LogIn) -> BrowserSignIn | NativeSignIn:
        kept = body.device or self.get_cookie(self.site.cookies.device) or ""
        device = msgspec.structs.replace(self.device(body.client), kept=kept)
        result = await self.services.accounts.log_in(body.email, body.password, device)
        return self.signed_in(result, body.client)


class RefreshHandler(SignInHandler):
    @operation(
        "Exchange a refresh token for new tokens. Each works once; a copy ends its session.",
        access="anyone",
        body=Refresh,
        answer=BrowserSignIn | NativeSignIn,
        errors=(Unauthenticated, RateLimited),
        shows="refresh",
    )
    async def post(self, body: Refresh) -> BrowserSignIn | NativeSignIn:
        if body.refresh_token is not None:
            result = await self._refresh(body.refresh_token)
            return self.with_tokens(result, "native")
        token = self.get_cookie(self.site.cookies.refresh)
        if not token:
            raise Unauthenticated("refresh: no token")
        self.require_own_page()
        return self.with_tokens(await self._refresh_cookie(token), "browser")

    async def _refresh(self, token: str) -> SignedIn:
        return await self.services.refresh.refreshes.refresh(token, self.client_ip)

    async def _refresh_cookie(self, token: str) -> SignedIn:
        try:
            return await self._refresh(token)
        except Unauthenticated:
            self.drop_cookies = True
            raise


class LogOutHandler(ApiHandler):
    @operation(
        "End this login session: its tokens are dead and its sockets closed.",
        access="anyone",
        status=204,
        errors=(Unauthenticated,),
        shows="access",
        query={"wait": "`true`: answer 200 with what every node has closed, within 2 s"},
        ok_answer=Outcome,
    )
    async def post(self) -> Outcome | None:
        claims = await self.leaving()
        if self.get_query_argument("wait", "") != "true":
            await self.leave(claims)
            return None
        outcome = Outcome(0, 0, [])
        with suppress(NotFound):  # already ended, as requested
            outcome = await self.services.logout_ack.end(*_logged_out(claims))
        self.site.cookies.clear(self)
        return outcome

    async def leave(self, claims: Claims) -> None:
        """End the login session. Succeeds if it has already ended."""
        with suppress(NotFound):
            await self.services.session_ends.end(*_logged_out(claims))
        self.site.cookies.clear(self)

    async def leaving(self) -> Claims:
        """Identify the session. An expired token is accepted: it can only end the session."""
        token = self.access_token()
        self.drop_cookies = True  # useless, since they were refused
        try:
            claims = self.services.admission.verify(token)
            claims = (await self.services.admission.identify(claims)).claims
        except TokenExpired as error:
            claims = error.claims
        self.services.audit.acting(Caller(claims.sub, claims.sid, self.client_ip))
        return claims


def _logged_out(claims: Claims) -> tuple[str, str, str, str]:
    return claims.sub, claims.sid, "logout", claims.jti


class PasswordHandler(ApiHandler):
    @operation(
        "Change the password and end every other login session; or set a first one.",
        body=ChangePassword,
        status=204,
        errors=(
            WeakPassword,
            WrongPassword,
            ReauthenticationNeeded,
            StepUpNeeded,
            RateLimited,
        ),
        audit="password.changed",
    )
    async def post(self, body: ChangePassword) -> None:
        claims, accounts = self.identity.claims, self.services.accounts
        if body.current_password is None:
            if not await accounts.has_password(claims.sub):
                await self.require_step_up()
            await accounts.set_first_password(claims.sub, claims.sid, body.new_password)
            return
        await accounts.change_password(
            claims.sub, claims.sid, body.current_password, body.new_password
        )


class PasswordResetHandler(ApiHandler):
    @operation(
        "Set a password by a one-time link, and end every login session of the account. Whatever "
        "is wrong with a link, the refusal is the same.",
        access="anyone",
        body=ResetPassword,
        status=204,
        errors=(WeakPassword, LinkRefused, RateLimited),
    )
    async def post(self, body: ResetPassword) -> None:
        links = self.services.password_links
        user_id = await links.use(body.token, body.new_password, self.client_ip)
        self.services.audit.record("password.reset", subject=user_id, actor=user_id)
