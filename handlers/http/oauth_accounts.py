"""Providers and linked accounts, for programs."""

from __future__ import annotations

import msgspec

from handlers.api import ApiHandler
from handlers.http.auth import Client, LogOutHandler
from handlers.http.forms import form_values
from handlers.http.oauth import AuthorizationRequestHandler
from handlers.operations import operation
from services.claims import Claims
from services.errors import (
    BadRequest,
    InvitationRefused,
    NotFound,
    RateLimited,
    SignupClosed,
    StepUpNeeded,
    Unauthenticated,
    WrongPassword,
)
from services.native.requests import CLIENT, read_request
from services.oauth.errors import LastWayIn, ProviderUnavailable
from services.providers.authorization_requests import Link, proof_of
from services.providers.linked_accounts import LinkedAccount
from services.providers.logout import LogoutRefused
from services.settings.origins import checked_next


class ProviderItem(msgspec.Struct, frozen=True):
    """`login_url`: the URL to sign in with it; `?next=` sets where the browser goes afterwards."""

    name: str
    title: str
    login_url: str


class ProviderList(msgspec.Struct, frozen=True):
    items: list[ProviderItem]


class LinkedList(msgspec.Struct, frozen=True):
    """`has_password`: whether the account can also be signed in to with a password."""

    items: list[LinkedAccount]
    has_password: bool


class LinkAccount(msgspec.Struct):
    """`current_password`: needed unless the user has just signed in or stepped up. `next`: where to
    go after."""

    current_password: str | None = None
    next: str | None = None


class SignUpThere(msgspec.Struct):
    """`invitation`: what stands behind `#invitation=` in its link. `next`: where to go after. The
    others: as in the query of `/oauth/{provider}/login`, for a native app."""

    invitation: str
    next: str | None = None
    client: Client = "browser"
    redirect_uri: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    state: str | None = None


class GoThere(msgspec.Struct, frozen=True):
    """`location`: the URL to which the browser has to navigate."""

    location: str


class EndedSession(msgspec.Struct, frozen=True):
    """`location`: where the browser ends the provider's own session too; null where there is no
    such place."""

    location: str | None


class ProvidersHandler(ApiHandler):
    @operation("Providers that one can sign in with.", access="anyone", answer=ProviderList)
    async def get(self) -> ProviderList:
        return ProviderList(
            [
                ProviderItem(
                    provider.name, provider.title, self.at(f"/oauth/{provider.name}/login")
                )
                for provider in self.services.oauth.providers
            ]
        )


class InvitedSignUpHandler(AuthorizationRequestHandler):
    @operation(
        "Start a sign-up with a provider and an invitation: the browser goes to `location`, and "
        "returns as from `/oauth/{provider}/login`. The invitation is only in the cookie that is "
        "set here.",
        access="anyone",
        body=SignUpThere,
        answer=GoThere,
        errors=(
            NotFound,
            BadRequest,
            InvitationRefused,
            SignupClosed,
            RateLimited,
            ProviderUnavailable,
        ),
    )
    async def post(self, provider: str, body: SignUpThere) -> GoThere:
        oauth, origins = self.services.oauth, self.site.origins
        oauth.providers.get(provider)
        native = None
        if body.client == CLIENT:
            given = {name: [text] for name, text in msgspec.structs.asdict(body).items() if text}
            listed = self.services.infrastructure.settings.native_redirect_uris
            native = read_request(given, listed)
        next_ = checked_next(body.next or origins.home, origins)
        rules = self.services.registration.rules
        invitation = await rules.check(body.invitation, self.address().ip)
        begun = await oauth.flow.begin(provider, next_, native=native, invitation=invitation)
        self.set_request_cookie(begun)
        return GoThere(begun.url)


class LinkedAccountsHandler(ApiHandler):
    @operation("The user's linked accounts.", answer=LinkedList)
    async def get(self) -> LinkedList:
        oauth = self.services.oauth
        user_id, title = self.identity.user_id, oauth.providers.title
        linked = await oauth.linked_accounts.linked(user_id, title)
        return LinkedList(linked, await self.services.accounts.has_password(user_id))


class LinkedAccountHandler(ApiHandler):
    @operation(
        "Unlink an account. Login sessions that came of it end, this one too if it did.",
        audit="identity.unlinked",
        status=204,
        step_up=True,
        errors=(NotFound, LastWayIn),
    )
    async def delete(self, provider: str) -> None:
        oauth, claims = self.services.oauth, self.identity.claims
        usable = frozenset(p.name for p in oauth.providers)
        tokens = await oauth.linked_accounts.unlink(claims.sub, provider, usable)
        oauth.logout.give_back(tokens)
        if self.services.revocations.ends(claims, self.identity.generation):
            self.site.cookies.clear(self)


class LinkHandler(AuthorizationRequestHandler):
    @operation(
        "Start linking an account at a provider: the browser goes to `location`, and returns.",
        body=LinkAccount,
        answer=GoThere,
        errors=(
            NotFound,
            BadRequest,
            WrongPassword,
            StepUpNeeded,
            RateLimited,
            ProviderUnavailable,
        ),
    )
    async def post(self, provider: str, body: LinkAccount) -> GoThere:
        origins = self.site.origins
        next_ = checked_next(body.next or origins.home, origins)
        self.services.oauth.providers.get(provider)  # before the password is verified
        if self.is_other_host():
            here = origins.public_url
            raise BadRequest("linking: at another name", detail=f"open {here} to link accounts")
        claims = self.identity.claims
        known_hash = await self._reauthenticate(claims, body.current_password)
        link = Link(claims.sub, claims.sid, proof_of(known_hash))
        begun = await self.services.oauth.flow.begin(provider, next_, link)
        self.set_request_cookie(begun)
        return GoThere(begun.url)

    async def _reauthenticate(self, claims: Claims, password: str | None) -> str | None:
        """Verify the password, or require a step-up. Returns the password's hash; None if the
        account has no password."""
        accounts, step_up = self.services.accounts, self.services.step_up
        if password is not None:
            known_hash = await accounts.confirm(claims.sub, claims.sid, password)
            await step_up.require(self.identity, password_given=True)
            return known_hash
        await step_up.require(self.identity)
        return await accounts.password_hash(claims.sub)


class ProviderLogOutHandler(LogOutHandler):
    @operation(
        "End this login session, and return the URL that ends the provider's session.",
        access="anyone",
        answer=EndedSession,
        errors=(Unauthenticated,),
        shows="access",
    )
    async def post(self) -> EndedSession:
        claims = await self.leaving()
        back_to = f"{self.site.origins.public_url}/"
        location = await self.services.oauth.logout.end_session_url(claims.sid, back_to)
        await self.leave(claims)
        return EndedSession(location)


class BackChannelLogoutHandler(ApiHandler):
    @operation(
        "OIDC Back-Channel Logout 1.0: a form with a `logout_token`, sent by the provider.",
        access="anyone",
        form={"logout_token": "a JWT of `typ` `logout+jwt`"},
        errors=(NotFound, LogoutRefused, ProviderUnavailable),
    )
    async def post(self, provider: str) -> None:
        values = form_values(self.request, "logout_token")
        if len(values) != 1:
            raise LogoutRefused("not one logout_token", error="invalid_request")
        await self.services.oauth.logout.receive(provider, values[0])
