"""Settings and providers as this node has them, for administrators."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.errors import NotFound
from services.oauth.errors import ProviderUnavailable
from services.providers.registry import Connection
from services.settings.row import ShownSetting


class SettingList(msgspec.Struct, frozen=True):
    items: list[ShownSetting]


class ProviderShown(msgspec.Struct, frozen=True):
    """A provider, as this node sees it.

    Attributes:
        redirect_uri, backchannel_logout_uri: to be registered with the provider.
        state: the outcome of this node's last call to the provider; `unknown` before the first.
        state_at: when that was, epoch seconds; null before the first.
        problem: why the call failed; null if it did not.
    """

    name: str
    title: str
    issuer: str | None
    client_id: str
    scopes: list[str]
    signup: bool
    email_domains: list[str]
    redirect_uri: str
    backchannel_logout_uri: str
    state: Literal["ok", "unavailable", "unknown"]
    state_at: float | None
    problem: str | None


class ProviderPage(msgspec.Struct, frozen=True):
    items: list[ProviderShown]


class SettingsHandler(ApiHandler):
    @operation(
        "The settings as this node has read them, with their source. Secrets are not shown.",
        access="admin",
        answer=SettingList,
    )
    async def get(self) -> SettingList:
        return SettingList(list(self.services.infrastructure.settings.shown))


class ForProviders(ApiHandler):
    """Describes providers."""

    def shown(self, connection: Connection) -> ProviderShown:
        """A provider with its state."""
        chosen, last = connection.settings, connection.last
        base = connection.redirect_uri.removesuffix("/callback")
        state: Literal["ok", "unavailable", "unknown"] = "unknown"
        if last is not None:
            state = "unavailable" if last.problem else "ok"
        return ProviderShown(
            chosen.name,
            connection.title,
            chosen.issuer,
            chosen.client_id,
            list(chosen.scopes),
            chosen.signup,
            list(chosen.email_domains),
            connection.redirect_uri,
            f"{base}/backchannel-logout",
            state,
            last.at if last else None,
            last.problem or None if last else None,
        )


class AdminProvidersHandler(ForProviders):
    @operation(
        "The providers with their state, as this node sees them. Client secrets are not shown.",
        access="admin",
        answer=ProviderPage,
    )
    async def get(self) -> ProviderPage:
        return ProviderPage([self.shown(each) for each in self.services.oauth.providers])


class ProviderCheckHandler(ForProviders):
    @operation(
        "Call a provider now, and return its state. Nothing is changed.",
        access="admin",
        answer=ProviderShown,
        errors=(NotFound,),
        audit="provider.checked",
        step_up=False,
    )
    async def post(self, provider: str) -> ProviderShown:
        connection = self.services.oauth.providers.get(provider)
        with suppress(ProviderUnavailable):  # the answer says it
            await connection.ask(lambda p: p.check())
        return self.shown(connection)
