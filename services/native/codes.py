"""One-time codes that hand a login session over to a native app.

A code belongs to a login session that is opened when the code is created. Until the exchange the
session has no tokens, and it expires with the code. The exchange hands it to the app. So everything
that ends login sessions, such as a disabled account or a logout at the provider, also ends one that
waits for its exchange.

A code is used up by its first use, valid or not, in the transaction that locks its session. A
second use ends the session (RFC 6749 section 4.1.2), because one of the two users may be a thief.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

import peewee

from models.login_session import LoginSession, RefreshToken
from models.native_code import NativeCode
from models.user import User
from services.claims import Claims
from services.errors import Unauthenticated
from services.event_loop.steady_clock import SteadyClock
from services.keyed_tokens import Checksums
from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of
from services.native.requests import NativeRequest
from services.opaque import opaque_token, token_hash
from services.secret import Secret
from services.sessions import session_rows
from services.sessions.control import Revocation
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.sessions.session_views import Device, ProviderSession, SignedIn
from services.storage.database import Database
from services.storage.row_locks import locked_one

CODE_SECONDS = 60.0
CLOCK_SKEW_SECONDS = 5.0
"""How far the clocks of nodes may be apart. A code that was made further ahead is not taken: a
clock was set back, and nothing is known of its age."""
PREFIX = "usher_nc_"
"""Before codes, so that secret scanners find leaked ones."""
MAX_CODE_LENGTH = 128
REUSED, REFUSED = "code_reused", "code_refused"
"""Why a login session ended whose code was used twice, or not as it was asked for."""

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
"""RFC 7636 section 4.1."""


class NativeCodes:
    """Creates codes, and exchanges each of them once.

    Args:
        checksums: verify a code's checksum before a look-up.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        login_sessions: LoginSessions,
        session_ends: SessionEnds,
        revocations: Revocations,
        checksums: Checksums,
        limits: HourlyLimits,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._sessions = database, login_sessions
        self._ends = session_ends
        self._revocations, self._checksums = revocations, checksums
        self._limits = limits
        self._clock = SteadyClock() if clock is None else clock

    # ---- making ----------------------------------------------------------------------------

    async def for_browser(
        self, claims: Claims, refresh_token: str, request: NativeRequest, device: Device
    ) -> Secret:
        """Create a code for an app, for a user who is signed in in the browser.

        Args:
            claims: the claims of the browser's access token.
            refresh_token: the refresh token of the same login session. An access token alone may
                have leaked, and must not become a session that outlives it.

        Raises:
            Unauthenticated: the browser's login session has ended, or the refresh token is of
                another one.
            RateLimited: too many sign-ins of this user in an hour.
        """
        (await self._limits.take((self._limits.of.signins, claims.sub))).require()
        code = self._new_code()

        def work(db: peewee.Database) -> SignedIn:
            user = locked_one(User.select().where(User.id == claims.sub), db)
            browser = session_rows.active(db, claims.sub, claims.sid, self._clock())
            token = RefreshToken.select().where(
                (RefreshToken.hash == token_hash(refresh_token))
                & (RefreshToken.session == claims.sid)
                & (RefreshToken.replaced == False)  # noqa: E712  # a column, not a truth
                & (RefreshToken.expires_at > self._clock())
            )
            if user is None or browser is None or not token.exists(db):
                raise Unauthenticated("native code: the browser's login session is over")
            signed_in = self._sessions.open_within(
                db,
                user,
                browser.method,
                device,
                _origin_of(browser),
                session_rows.proof_of(browser),
            )
            self._insert(db, code, signed_in.claims.sid, request)
            return signed_in

        await self._sessions.announce(await self._database.run(work))
        return code

    async def for_signed_in(self, signed_in: SignedIn, request: NativeRequest) -> Secret:
        """Create a code for a login session that was just opened for the app, and whose tokens were
        not given out."""
        code = self._new_code()
        await self._database.run(self._insert, code, signed_in.claims.sid, request)
        return code

    def _insert(self, db: peewee.Database, code: Secret, sid: str, request: NativeRequest) -> None:
        now = self._clock()
        session_rows.hide_tokens(db, sid, now + CODE_SECONDS + CLOCK_SKEW_SECONDS)
        NativeCode.insert(
            hash=token_hash(code.reveal()),
            session=sid,
            challenge=request.challenge,
            redirect_uri=request.redirect_uri,
            created_at=now,
        ).execute(db)

    def _new_code(self) -> Secret:
        text = opaque_token(PREFIX).reveal()
        return Secret(text + self._checksums.sign(text))

    # ---- exchanging ------------------------------------------------------------------------

    async def exchange(
        self, code: str, verifier: str, redirect_uri: str, device: Device
    ) -> SignedIn:
        """Exchange a code for its login session, which belongs to the app from now on.

        Args:
            verifier: the PKCE `code_verifier` (RFC 7636 section 4.5).
            redirect_uri: the redirect URI that the code was sent to (RFC 6749 section 4.1.3).
            device: the app.

        Raises:
            Unauthenticated: the code is unknown, expired or used, its session has ended, or the
                verifier or redirect URI differs. If the code was genuine, its session is ended.
            RateLimited: too many invalid codes from this address in an hour, or too many uses of
                one code.
        """
        of, network = self._limits.of, network_of(device.ip)
        if not self._checksums.holds(code, PREFIX, MAX_CODE_LENGTH):
            (await self._limits.take((of.bad_tokens, network))).require()
            raise _refused("not one of ours, by its form")
        # A genuine code is accepted even if its address sent many invalid ones.
        (await self._limits.take((of.refresh_reuse, code))).require()
        outcome = await self._database.run(self._redeem, code, verifier, redirect_uri, device)
        if isinstance(outcome, SignedIn):
            await self._sessions.announce(outcome)
            return outcome
        await self._limits.take((of.bad_tokens, network))
        if isinstance(outcome, Revocation):
            await self._revocations.publish([outcome])
            raise _refused(f"{outcome.reason}; its login session was ended", outcome.user_id)
        raise _refused(outcome)

    def _redeem(
        self, db: peewee.Database, code: str, verifier: str, redirect_uri: str, device: Device
    ) -> SignedIn | Revocation | str:
        """Use a code up. Returns the login session, its end, or the reason why there is neither."""
        mine = NativeCode.hash == token_hash(code)
        found = NativeCode.select().where(mine).get_or_none(db)
        sid = None if found is None else found.session_id
        session = locked_one(LoginSession.select().where(LoginSession.id == sid), db)
        # Read again under the session's lock: of concurrent callers only one finds it unused.
        row = NativeCode.select().where(mine).get_or_none(db)
        if row is None or session is None:
            return "unknown, or its login session is gone"
        now = self._clock()
        if row.used_at is None:
            NativeCode.update({NativeCode.used_at: now}).where(mine).execute(db)
        user = User.select().where(User.id == session.user_id).get_or_none(db)
        if (
            session.ended_at is not None
            or user is None
            or user.disabled_at is not None
            or user.generation != session.generation
        ):
            return "its login session is over"
        if row.used_at is not None:
            return self._ends.end_within(db, session.id, session.user_id, REUSED)
        timely = -CLOCK_SKEW_SECONDS <= now - row.created_at < CODE_SECONDS
        if (
            not timely
            or row.redirect_uri != redirect_uri
            or not _matches_challenge(row.challenge, verifier)
        ):
            return self._ends.end_within(db, session.id, session.user_id, REFUSED)
        return self._sessions.issue_first_tokens_within(db, session, user, device)


def _refused(evidence: str, about: str = "") -> Unauthenticated:
    error = Unauthenticated(f"exchange: {evidence}", error="invalid_grant")
    error.about = about
    return error


def _matches_challenge(challenge: str, verifier: str) -> bool:
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode()).digest()
    made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(made, challenge)


def _origin_of(session: LoginSession) -> ProviderSession | None:
    """The provider's session that the login session derives from, so that a logout at the provider
    ends it, too."""
    if session.provider is None or session.provider_subject is None:
        return None
    return ProviderSession(session.provider, session.provider_subject, session.provider_sid)
