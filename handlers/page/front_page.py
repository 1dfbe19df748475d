"""The page itself: its frame, with what a first look at it needs."""

from __future__ import annotations

import msgspec

from handlers.base import BaseHandler
from handlers.http.pages import PageHandler, send_page
from services.errors import Unauthenticated, Unavailable
from services.registration.registration import Mode
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
    """

    user: Profile | None
    signup: Mode
    is_first: bool
    providers: list[Way]


class FrontPageHandler(PageHandler):
    async def get(self) -> None:
        user = await signed_in_user(self)
        start = await start_of(self, user)
        shown = msgspec.json.encode(start).decode()
        send_page(self, "index.html", user=user, start=shown, is_first=start.is_first)

    head = get


class WithoutSlashHandler(BaseHandler):
    """The path of PUBLIC_URL without the slash at its end, as people type it."""

    def get(self) -> None:
        query = f"?{self.request.query}" if self.request.query else ""
        self.set_status(308)
        self.set_header("Location", self.site.origins.home + query)

    head = get


async def start_of(handler: BaseHandler, user: Profile | None) -> Start:
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


async def signed_in_user(handler: BaseHandler) -> Profile | None:
    """Who has a valid access token in the cookie."""
    token = handler.get_cookie(handler.site.cookies.access)
    if not token:
        return None
    services = handler.services
    try:
        identity = await services.admission.identify(services.admission.verify(token))
        return await services.accounts.profile(identity.user_id)
    except (Unauthenticated, Unavailable):
        return None
