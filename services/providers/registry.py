"""The providers of an installation, each with its own worker threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from services.errors import NotFound
from services.oauth.calls import ProviderCalls
from services.oauth.errors import ProviderBusy, ProviderRefused, ProviderUnavailable
from services.oauth.github import GitHubProvider
from services.oauth.oidc import OidcProvider
from services.oauth.provider import Provider
from services.oauth.token_endpoint import OAuthClient
from services.settings.providers import OAuthProvider

TITLES = {"google": "Google", "github": "GitHub", "microsoft": "Microsoft"}

T = TypeVar("T")


class LastCall(NamedTuple):
    """The outcome of a call. `at`: epoch seconds. `problem`: why it failed, or empty."""

    at: float
    problem: str


class Connection:
    """One provider, and the threads for calls to it.

    Attributes:
        redirect_uri: where it sends the browser back to.
        last: the outcome of the last call; None before the first.
    """

    def __init__(
        self, provider: Provider, redirect_uri: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.name, self.title = provider.settings.name, provider.title
        self.settings, self.redirect_uri = provider.settings, redirect_uri
        self.last: LastCall | None = None
        self._clock = clock
        self._provider = provider
        self._calls = ProviderCalls(self.name)

    async def ask(self, work: Callable[[Provider], T], to_its_end: bool = False) -> T:
        """Call the provider in one of its threads.

        Args:
            to_its_end: as for `ProviderCalls.run`.

        Raises:
            ProviderUnavailable: the response is missing, late or invalid, or too many calls wait.
            SignInRefused, GrantEnded: as the provider's method.
        """
        try:
            answer = await self._calls.run(lambda: work(self._provider), to_its_end)
        except ProviderUnavailable as error:
            if not isinstance(error, (ProviderBusy, ProviderRefused)):
                self.last = LastCall(self._clock(), error.evidence or error.title)
            raise
        self.last = LastCall(self._clock(), "")
        return answer

    def close(self) -> None:
        """Let the threads end. Does not block."""
        self._calls.close()


class Providers:
    """The providers, by name.

    Args:
        settings: OAUTH_PROVIDERS.
        public_url: of this installation. The redirect URI is `/oauth/{name}/callback` there.
    """

    def __init__(
        self,
        settings: Iterable[OAuthProvider],
        public_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._by_name = {
            chosen.name: _connection(chosen, f"{public_url}/oauth/{chosen.name}/callback", clock)
            for chosen in settings
        }

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Connection:
        """The provider with this name.

        Raises:
            NotFound: there is no such provider.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise NotFound("no such provider") from None

    def title(self, name: str) -> str:
        """What a provider is called, also one that was set once and is no more."""
        known = self._by_name.get(name)
        return known.title if known is not None else usual_title(name)

    def close(self) -> None:
        """Let every thread end. Does not block."""
        for connection in self:
            connection.close()


def usual_title(name: str) -> str:
    """The default name on a provider's button."""
    return TITLES.get(name) or name.replace("-", " ").title()


def _connection(
    settings: OAuthProvider, redirect_uri: str, clock: Callable[[], float]
) -> Connection:
    return Connection(_make(settings, redirect_uri, clock), redirect_uri, clock)


def _make(settings: OAuthProvider, redirect_uri: str, clock: Callable[[], float]) -> Provider:
    client = OAuthClient(settings.client_id, settings.client_secret, redirect_uri, clock)
    title = settings.title or usual_title(settings.name)
    if settings.name == "github":
        return GitHubProvider(settings, client, title)
    return OidcProvider(settings, client, title)
