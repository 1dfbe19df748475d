"""Sign-ins at the tests' providers, at two heights: a provider alone, and a node's whole flow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from services.oauth import http as oauth_http
from services.oauth.github import GitHubProvider
from services.oauth.oidc import OidcProvider
from services.oauth.provider import Provider, RequestBinding
from services.oauth.token_endpoint import Grant, OAuthClient, new_verifier
from services.oauth.userinfo import ProviderProfile
from services.providers.authorization_requests import Link
from services.providers.flow import Answer, Finished
from services.secret import Secret
from services.settings.providers import OAuthProvider
from tests.support import github as github_support
from tests.support import provider as provider_support
from tests.support.http_service import sent_back
from tests.support.parts import DEVICE, ISSUER, Clock, Parts

NAME = "idp"
HANGING = frozenset(("slow", "held", "drip", "drip_headers"))
TENANT = "7f0dfd33-66c1-4d5c-9c5c-0c9ea2b6cc3a"


def callback(name: str = NAME) -> str:
    """The redirect URI of a provider in the tests' settings."""
    return f"{ISSUER}/oauth/{name}/callback"


def real_clock() -> Clock:
    """A clock of the test's that begins now: providers sign with the time of day."""
    return Clock(time.time())


@contextmanager
def hurried(fault: str = "held", seconds: float = 0.5) -> Iterator[None]:
    """Calls to providers are given up so soon, where the fault is one of those that hang. The
    others answer at once, and on a busy machine what is sound may take its time."""
    with pytest.MonkeyPatch.context() as patch:
        if fault in HANGING:
            patch.setattr(oauth_http, "CALL_SECONDS", seconds)
        yield


# ---- a provider alone ----------------------------------------------------------------------


def settings_of(op: provider_support.Provider, name: str = NAME, **more: Any) -> OAuthProvider:
    """What an installation sets for the tests' OpenID provider."""
    return OAuthProvider(name, op.issuer, op.client_id, Secret(op.client_secret), **more)


def settings_of_github(hub: github_support.GitHub, **more: Any) -> OAuthProvider:
    """The same for the tests' GitHub, as an Enterprise Server."""
    return OAuthProvider("github", hub.origin, hub.client_id, Secret(hub.client_secret), **more)


def client_of(settings: OAuthProvider, clock: Callable[[], float] = time.time) -> OAuthClient:
    return OAuthClient(settings.client_id, settings.client_secret, callback(settings.name), clock)


def oidc(
    op: provider_support.Provider,
    name: str = NAME,
    clock: Callable[[], float] = time.time,
    **more: Any,
) -> OidcProvider:
    settings = settings_of(op, name, **more)
    return OidcProvider(settings, client_of(settings, clock), "The Provider")


def github_provider(hub: github_support.GitHub, **more: Any) -> GitHubProvider:
    settings = settings_of_github(hub, **more)
    return GitHubProvider(settings, client_of(settings), "GitHub")


def new_start() -> RequestBinding:
    return RequestBinding("state of this test", "nonce of this test", new_verifier())


def came_back(url: str) -> Answer:
    """What a browser brings back that was sent there, for somebody who says yes."""
    query = parse_qs(urlsplit(sent_back(url)).query)
    sent = {name: values[0] for name, values in query.items()}
    return Answer(
        sent.get("state", ""), sent.get("code", ""), sent.get("error", ""), sent.get("iss")
    )


def exchanged(provider: Provider) -> tuple[ProviderProfile, Grant]:
    """A whole sign-in. Raises as the provider's methods do."""
    start = new_start()
    answer = came_back(provider.authorization_url(start, None))
    provider.check_issuer(answer.issuer)
    return provider.exchange(answer.code, start)


# ---- the flow of a node --------------------------------------------------------------------


class Way(NamedTuple):
    """A sign-in that has come back from the provider and is not finished yet."""

    provider: str
    sealed: str
    answer: Answer


async def came_to(
    parts: Parts, provider: str = NAME, link: Link | None = None, next_: str = "/"
) -> Way:
    """Begin a sign-in, or a linking, and go to the provider and back."""
    begun = await parts.oauth.flow.begin(provider, next_, link)
    answer = await asyncio.to_thread(came_back, begun.url)
    return Way(provider, begun.sealed.reveal(), answer)


async def finished(parts: Parts, way: Way, sid: str | None = None) -> Finished:
    """Finish it, in a browser that is signed in with the login session `sid`, if any."""
    return await parts.oauth.flow.finish(way.provider, way.sealed, way.answer, DEVICE, sid)
