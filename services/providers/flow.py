"""Sign-in with a provider, from the redirect to the callback.

Authorization code with PKCE (RFC 6749 section 4.1, RFC 7636, RFC 9700), with OpenID Connect where
the provider supports it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from services.errors import EmailUnverified, RateLimited, Unauthenticated, Unavailable
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
    """A started sign-in. `url`: the provider's authorization URL. `sealed`: the cookie's value;
    `key`: part of its name."""

    url: str
    key: str
    sealed: Secret


class Answer(msgspec.Struct, frozen=True):
    """The parameters of a callback (RFC 6749 section 4.1.2, RFC 9207)."""

    state: str
    code: str
    error: str
    issuer: str | None


class Finished(msgspec.Struct, frozen=True):
    """A completed sign-in or linking. `signed_in`: None for a linking. `native`: the request of the
    native app, if one requested it."""

    signed_in: SignedIn | None
    next: str
    native: NativeRequest | None = None


class OAuth:
    """The authorization code flow.

    Args:
        keys_are_wrong: whether ENCRYPTION_KEYS do not fit the data in the database.
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
        invitation: str | None = None,
    ) -> Begun:
        """Start a sign-in or a linking.

        Args:
            next_: the page of this site to go to afterwards; checked by the caller.
            prompt: "login" makes the provider ask the user to sign in again.
            native: the request of a native app, if there is one.
            invitation: the hash of an invitation's token, if there is one.

        Raises:
            NotFound: there is no such provider.
            ProviderUnavailable: the provider cannot be reached.
            Unavailable: the encryption keys are wrong.
        """
        connection = self._providers.get(provider)
        self._refuse_wrong_key()
        request, sealed = self._authorization_requests.begin(
            provider, next_, link, native, invitation
        )
        try:
            url = await connection.ask(lambda p: p.authorization_url(request.start, prompt))
        except ProviderUnavailable:
            self._count(connection, "unavailable")
            raise
        return Begun(url, request_key(request.start.state), sealed)

    def began(self, provider: str, sealed: str, state: str) -> AuthorizationRequest | None:
        """The browser's authorization request of a callback, whether or not it may still be
        finished; None if there is none."""
        return self._authorization_requests.read(sealed, provider, state)

    def newest(self, provider: str, kept: Sequence[str]) -> AuthorizationRequest | None:
        """The browser's newest request, which a callback without a state most likely belongs to.
        Use it for error messages only."""
        return self._authorization_requests.newest(kept, provider)

    async def finish(
        self, provider: str, sealed: str, answer: Answer, device: Device, sid: str | None
    ) -> Finished:
        """Finish a sign-in or linking with the callback.

        Args:
            sealed: the browser's request cookie.
            sid: the login session that the browser is signed in with, if any.

        Raises:
            NotFound: there is no such provider.
            SignInRefused: with a reason for the user, and the cause for the log.
            Unavailable: the encryption keys are wrong, or the database is unavailable.
        """
        connection = self._providers.get(provider)
        self._refuse_wrong_key()
        try:
            taken = await self._take(device.ip)
            try:
                request = await self._authorization_requests.take(
                    sealed, provider, answer.state, spend=_has_code(answer)
                )
                profile, grant = await self._exchange_code(connection, request, answer, taken)
            finally:
                taken.give_back()
            finished = await self._open_session(connection, request, profile, grant, device, sid)
        except SignInRefused as error:
            self._count(connection, error.code)
            raise
        self._count(connection, "linked" if request.link else "signed_in")
        return finished

    async def _take(self, ip: str) -> Taken:
        """Redeem the request, which writes a row."""
        taken = await self._limits.take((self._limits.of.bad_codes, network_of(ip)))
        try:
            taken.require()
        except RateLimited as error:
            raise SignInRefused(Reason.TOO_MANY, error.evidence, error.seconds) from error
        return taken

    async def _counted(self, user_id: str) -> Taken:
        """Count the sign-in for its user, as with a password."""
        taken = await self._limits.take((self._limits.of.signins, user_id))
        try:
            taken.require()
        except RateLimited as error:
            refused = SignInRefused(Reason.TOO_OFTEN, error.evidence, error.seconds)
            refused.about = user_id
            raise refused from error
        return taken

    async def _exchange_code(
        self, connection: Connection, request: AuthorizationRequest, answer: Answer, taken: Taken
    ) -> tuple[ProviderProfile, Grant]:
        """Exchange the code for the user's profile at the provider.

        Invented codes cause calls to the provider, so they are limited for each address.
        """
        try:
            return await connection.ask(partial(_exchange, request=request, answer=answer))
        except SignInRefused as error:
            if error.reason is Reason.UNTRUSTED:
                taken.keep()
            raise
        except ProviderRefused as error:
            taken.keep()
            raise SignInRefused(reason_of(error.error_code), error.evidence) from error
        except ProviderUnavailable as error:
            raise SignInRefused(Reason.UNAVAILABLE, error.evidence) from error
        except GrantEnded as error:
            taken.keep()
            raise SignInRefused(
                Reason.STALE, "token endpoint: code expired or already used"
            ) from error

    async def _open_session(
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
            signed_in = await self._identities.sign_in(
                connection.settings, profile, grant, device, request.invitation
            )
        except BaseException as error:  # also if cancelled: no user was signed in
            if taken is not None:
                taken.give_back()
            if isinstance(error, Unauthenticated):
                raise SignInRefused(Reason.NOT_ALLOWED, error.evidence) from error
            if isinstance(error, EmailUnverified):
                raise SignInRefused(Reason.EMAIL_UNVERIFIED, error.evidence) from error
            raise
        if taken is None:  # the first one by this identity
            await self._limits.take((self._limits.of.signins, signed_in.user.id))
        return Finished(signed_in, request.next, request.native)

    def _refuse_wrong_key(self) -> None:
        """Refuse with wrong ENCRYPTION_KEYS: the right ones could not decrypt the stored data."""
        if self._keys_are_wrong():
            raise Unavailable("USHER_ENCRYPTION_KEYS do not match the database")

    def _count(self, connection: Connection, outcome: str) -> None:
        self._metrics.oauth_sign_ins.labels(provider=connection.name, outcome=outcome).inc()


def _exchange(
    provider: Provider, request: AuthorizationRequest, answer: Answer
) -> tuple[ProviderProfile, Grant]:
    """Validate the callback and exchange the code. Runs in a worker thread."""
    provider.check_issuer(answer.issuer)
    if answer.error:
        refuse(answer.error)
    if not _has_code(answer):
        raise SignInRefused(Reason.UNTRUSTED, "callback: neither a code nor an error")
    return provider.exchange(answer.code, request.start)


def _has_code(answer: Answer) -> bool:
    return not answer.error and 0 < len(answer.code) <= MAX_CODE_LENGTH
