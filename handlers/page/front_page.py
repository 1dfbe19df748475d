"""The page itself: its frame, with what a first look at it needs."""

from __future__ import annotations

import asyncio

import msgspec

from handlers.base import BaseHandler
from handlers.http.pages import PageHandler, send_page
from handlers.http.sessions import Session, sessions_of
from services.errors import Unauthenticated, Unavailable
from services.registration.registration import Mode
from services.sessions.admission import Identity
from services.sessions.session_views import Profile


class Way(msgspec.Struct, frozen=True):
    """A provider, as `GET /api/oauth/providers` has it."""

    name: str
    title: str
    login_url: str


class Start(msgspec.Struct, frozen=True):
    """What a page would have to ask first, sent along with it: that saves a round trip.

    Attributes:
        user: who is signed in, by the access token's cookie. The page finds out whether an expired
            one can be renewed.
        signup: who may open an account.
        is_first: whether there is no account at all: the next one becomes the administrator.
        sessions: the login sessions of `user`, which the first area shows; `None` if they are not
            known.
    """

    user: Profile | None
    signup: Mode
    is_first: bool
    providers: list[Way]
    sessions: list[Session] | None = None


class FrontPageHandler(PageHandler):
    async def get(self) -> None:
        identity = await signed_in(self)
        user, sessions = (None, None) if identity is None else await self._theirs(identity)
        start = msgspec.structs.replace(await start_of(self, user), sessions=sessions)
        shown = msgspec.json.encode(start).decode()
        send_page(self, "index.html", user=user, start=shown, is_first=start.is_first)

    head = get

    async def _theirs(self, identity: Identity) -> tuple[Profile | None, list[Session] | None]:
        """Who is signed in, and where; the page asks for what is not known now."""
        try:
            return await asyncio.gather(
                self.services.accounts.profile(identity.user_id),
                sessions_of(self.services, identity.claims),
            )
        except (Unauthenticated, Unavailable):
            return None, None


class WithoutSlashHandler(BaseHandler):
    """The path of PUBLIC_URL without the slash at its end, as people type it."""

    def get(self) -> None:
        query = f"?{self.request.query}" if self.request.query else ""
        self.set_status(308)
        self.set_header("Location", self.site.origins.home + query)

    head = get


async def start_of(handler: BaseHandler, user: Profile | None = None) -> Start:
    """What a page brings along. `user`: who is signed in."""
    rules = handler.services.registration.rules
    ways = [
        Way(provider.name, provider.title, handler.at(f"/oauth/{provider.name}/login"))
        for provider in handler.services.oauth.providers
    ]
    try:
        is_first, mode = not await rules.is_anybody(), await rules.mode_now()
    except Unavailable:  # the forms say what is wrong
        is_first, mode = False, "open"
    return Start(user, mode, is_first, ways)


async def signed_in(handler: BaseHandler) -> Identity | None:
    """Who has a valid access token in the cookie."""
    token = handler.get_cookie(handler.site.cookies.access)
    if not token:
        return None
    admission = handler.services.admission
    try:
        claims = admission.verify(token)
        handler.callers.enter("users", claims.sub)
        return await admission.identify(claims)
    except (Unauthenticated, Unavailable):
        return None
