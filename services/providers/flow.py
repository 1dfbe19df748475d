"""Sign-in with a provider, from the redirect to the callback.

Authorization code with PKCE (RFC 6749 section 4.1, RFC 7636, RFC 9700), with OpenID Connect where
the provider supports it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from services.errors import RateLimited, Unauthenticated, Unavailable
from services.limits.hourly import HourlyLimits, Taken
from services.limits.networks import network_of
from services.metrics import Metrics
from services.native.requests import NativeRequest
from services.oauth.answers import reason_of, refuse
from services.oauth.errors import (
    GrantEnded,
    ProviderRefused,
    ProviderUnavailable,
    Reason,
    SignInRefused,
)
from services.oauth.provider import Provider
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.providers.authorization_requests import (
    AuthorizationRequest,
    AuthorizationRequests,
    Link,
    request_key,
)
from services.providers.identities import Identities
from services.providers.linked_accounts import LinkedAccounts
from services.providers.registry import Connection, Providers
from services.secret import Secret
from services.sessions.session_views import Device, SignedIn

MAX_CODE_LENGTH = 4096

log = logging.getLogger("usher.oauth")


class Begun(msgspec.Struct, frozen=True):
    """A sign-in that has begun. `url`: where the browser goes; `sealed`: what it keeps, under a
    name made of `key`."""

    url: str
    key: str
    sealed: Secret


class Answer(msgspec.Struct, frozen=True):
    """What a browser brings back from a provider (RFC 6749 section 4.1.2, RFC 9207)."""

    state: str
    code: str
    error: str
    issuer: str | None


class Finished(msgspec.Struct, frozen=True):
    """A sign-in or a linking that is done. `signed_in`: None for a linking. `native`: the app that
    it was for, if it was for one and not for the browser."""

    signed_in: SignedIn | None
    next: str
    native: NativeRequest | None = None


class OAuth:
    """The flow.

    Args:
        keys_are_wrong: whether ENCRYPTION_KEYS are not those of what is in the database.
    """

    def __init__(
        self,
        providers: Providers,
        authorization_requests: AuthorizationRequests,
        identities: Identities,
        linked_accounts: LinkedAccounts,
        limits: HourlyLimits,
        keys_are_wrong: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        self._providers, self._authorization_requests = providers, authorization_requests
        self._identities, self._linked = identities, linked_accounts
        self._limits, self._keys_are_wrong = limits, keys_are_wrong
        self._metrics = metrics

    async def begin(
        self,
        provider: str,
        next_: str,
        link: Link | None = None,
        prompt: str | None = None,
        native: NativeRequest | None = None,
    ) -> Begun:
        """Begin a sign-in, or a linking.

        Args:
            next_: where on this site to go after; checked by the caller.
            prompt: "login": the provider asks for a fresh sign-in.
            native: the app that it is for, where it is for one.

        Raises:
            NotFound: no such provider.
            ProviderUnavailable: it can't be asked just now.
            Unavailable: with wrong keys nothing is begun.
        """
        connection = self._providers.get(provider)
        self._refuse_wrong_key()
        request, sealed = self._authorization_requests.begin(provider, next_, link, native)
        try:
            url = await connection.ask(lambda p: p.authorization_url(request.start, prompt))
        except ProviderUnavailable:
            self._count(connection, "unavailable")
            raise
        return Begun(url, request_key(request.start.state), sealed)

    def began(self, provider: str, sealed: str, state: str) -> AuthorizationRequest | None:
        """What an answer belongs to, as this browser began it, whether or not it may still be
        finished; None where it did not."""
        return self._authorization_requests.read(sealed, provider, state)

    def newest(self, provider: str, kept: Sequence[str]) -> AuthorizationRequest | None:
        """What an answer without a state most likely belongs to: what the browser began last.
        Good for saying what has failed, and for nothing else."""
        return self._authorization_requests.newest(kept, provider)

    async def finish(
        self, provider: str, sealed: str, answer: Answer, device: Device, sid: str | None
    ) -> Finished:
        """Finish it with what the browser brings back.

        Args:
            sealed: what the browser has kept.
            sid: the login session that the browser is signed in with, if any.

        Raises:
            NotFound: no such provider.
            SignInRefused: with a reason for the user, and the cause for the log.
            Unavailable: with wrong keys nothing is begun or finished, and without the database
                nothing can be looked up.
        """
        connection = self._providers.get(provider)
        self._refuse_wrong_key()
        try:
            taken = await self._take(device.ip)
            try:
                request = await self._authorization_requests.take(
                    sealed, provider, answer.state, spend=_brings_code(answer)
                )
                profile, grant = await self._asked(connection, request, answer, taken)
            finally:
                taken.give_back()
            finished = await self._let_in(connection, request, profile, grant, device, sid)
        except SignInRefused as error:
            self._count(connection, error.code)
            raise
        self._count(connection, "linked" if request.link else "signed_in")
        return finished

    async def _take(self, ip: str) -> Taken:
        """First of all: each attempt that is used up is a row."""
        taken = await self._limits.take((self._limits.of.bad_codes, network_of(ip)))
        try:
            taken.require()
        except RateLimited as error:
            raise SignInRefused(Reason.TOO_MANY, error.evidence, error.seconds) from error
        return taken

    async def _counted(self, user_id: str) -> Taken:
        """A sign-in counts for its user, whichever way it was made."""
        taken = await self._limits.take((self._limits.of.signins, user_id))
        try:
            taken.require()
        except RateLimited as error:
            refused = SignInRefused(Reason.TOO_OFTEN, error.evidence, error.seconds)
            refused.about = user_id
            raise refused from error
        return taken

    async def _asked(
        self, connection: Connection, request: AuthorizationRequest, answer: Answer, taken: Taken
    ) -> tuple[ProviderProfile, Grant]:
        """Who it is, as the provider says.

        Made-up codes make us ask the provider; who sends many must not keep others from it.
        """
        try:
            return await connection.ask(partial(_exchange, request=request, answer=answer))
        except SignInRefused as error:
            if error.reason is Reason.UNTRUSTED:
                taken.keep()
            raise
        except ProviderRefused as error:
            taken.keep()
            raise SignInRefused(reason_of(error.word), error.evidence) from error
        except ProviderUnavailable as error:
            raise SignInRefused(Reason.UNAVAILABLE, error.evidence) from error
        except GrantEnded as error:
            taken.keep()
            raise SignInRefused(Reason.STALE, "token endpoint: the code is over") from error

    async def _let_in(
        self,
        connection: Connection,
        request: AuthorizationRequest,
        profile: ProviderProfile,
        grant: Grant,
        device: Device,
        sid: str | None,
    ) -> Finished:
        if request.link is not None:
            if sid != request.link.login_session_id:
                raise SignInRefused(Reason.SIGNED_OUT, "the browser is signed in otherwise now")
            await self._linked.link(connection.settings, profile, grant, request.link)
            return Finished(None, request.next)
        known = await self._identities.whose(connection.settings, profile)
        taken = None if known is None else await self._counted(known)
        try:
            signed_in = await self._identities.sign_in(connection.settings, profile, grant, device)
        except BaseException as error:  # cancelled too: nobody was signed in
            if taken is not None:
                taken.give_back()
            if isinstance(error, Unauthenticated):
                raise SignInRefused(Reason.NOT_ALLOWED, error.evidence) from error
            raise
        if taken is None:  # the first one by this identity
            await self._limits.take((self._limits.of.signins, signed_in.user.id))
        return Finished(signed_in, request.next, request.native)

    def _refuse_wrong_key(self) -> None:
        """With wrong ENCRYPTION_KEYS what is kept could never be read again by the right ones."""
        if self._keys_are_wrong():
            raise Unavailable("USHER_ENCRYPTION_KEYS are the wrong ones")

    def _count(self, connection: Connection, outcome: str) -> None:
        self._metrics.oauth_sign_ins.labels(provider=connection.name, outcome=outcome).inc()


def _exchange(
    provider: Provider, request: AuthorizationRequest, answer: Answer
) -> tuple[ProviderProfile, Grant]:
    """In a worker thread: is it this provider's answer, and is it a good one?"""
    provider.check_issuer(answer.issuer)
    if answer.error:
        refuse(answer.error)
    if not _brings_code(answer):
        raise SignInRefused(Reason.UNTRUSTED, "callback: neither a code nor an error")
    return provider.exchange(answer.code, request.start)


def _brings_code(answer: Answer) -> bool:
    return not answer.error and 0 < len(answer.code) <= MAX_CODE_LENGTH
