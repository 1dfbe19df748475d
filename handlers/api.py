"""The base of the handlers of JSON calls: authentication, CORS, and bodies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, cast

import msgspec

from handlers.base import SAFE_METHODS, BaseHandler
from handlers.operations import KEY_SCOPES, USERS_MAY, Access, Operation
from handlers.websocket.handshake import cookie_credential
from services.accounts.api_keys import PREFIX as KEY_PREFIX
from services.accounts.api_keys import GoodKey
from services.audit.events import Caller
from services.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    OriginRefused,
    Unauthenticated,
)
from services.limits.networks import network_of
from services.logs import redact
from services.sessions.admission import Identity
from services.sessions.session_views import Device
from services.websocket.protocol import encode_json

ADMIN_KIND = "admin.act"
ABOUT_USERS = frozenset(
    (
        "factor.removed_by_admin",
        "user.changed",
        "user.deleted",
        "user.signed_out",
        "member.set",
        "member.removed",
    )
)
"""Kinds whose last name in the path is a user's; except a member who is added by address."""
ABOUT_MEMBERS = frozenset(("member.set", "member.removed"))
"""Those of them below a channel, whose id is the first name in the path."""
ABOUT_ONESELF = frozenset(("factor.added", "factor.codes_made", "passkey.added"))
"""Kinds whose subject is the caller, whatever the call answers."""
MAX_USER_AGENT = 200
HOLD_BACK_SECONDS = 1.0
MAX_HELD_BACK = 2000

log = logging.getLogger("usher.http")


class ApiHandler(BaseHandler):
    """Handles JSON calls. `identity` is the caller, once an operation has admitted one."""

    identity: Identity
    key: GoodKey | None = None
    """The API key that called, once an operation has admitted one."""

    def acting(self) -> None:
        """The actor for the audit trail: the client's address, and the caller if known."""
        actor, session = f"key:{self.key.id}" if self.key else "", ""
        if (identity := getattr(self, "identity", None)) is not None:
            actor, session = identity.user_id, identity.claims.sid
        self.services.audit.acting(Caller(actor, session, self.client_ip))

    def audit_operation(self, done: Operation, result: object) -> None:
        """Record a completed operation in the audit trail."""
        kind = done.audit
        if not kind and done.access == "admin" and self.request.method not in SAFE_METHODS:
            kind = ADMIN_KIND
        if not kind:
            return
        path = list(self.path_args)
        subject = ""
        if kind in ABOUT_MEMBERS and len(path) == 1:  # whose id only the answer has
            subject = str(getattr(result, "id", ""))
        elif path and kind in ABOUT_USERS:
            subject = path.pop()
        target = path[0] if path else str(getattr(result, "id", ""))
        if not self.path_args:  # the caller's own account, or a new one
            subject = getattr(getattr(result, "user", None), "id", "")
            if not subject and (result is None or kind in ABOUT_ONESELF):
                subject = self.identity.user_id
        self.services.audit.record(
            kind,
            subject=subject,
            actor=subject,
            target=target or ("" if subject else redact(self.request.path)),
        )

    def prepare(self) -> None:
        # Every caller is unauthenticated until a credential is verified.
        self.callers.enter("unauthenticated", network_of(self.client_ip))
        self.set_header("Cache-Control", "no-store")
        self.answer_origin()
        origin = self.request.headers.get("Origin")
        safe = self.request.method in SAFE_METHODS
        if safe and origin is not None and not self.site.origins.is_own_or_allowed(origin):
            # Not refused here: the browser does it, because the CORS headers are missing.
            log.warning("%s %s: %s", self.request.method, self.request.path, self._refused())

    def answer_origin(self) -> None:
        """Allow pages of allowed origins to read the response (CORS)."""
        origin = self.request.headers.get("Origin")
        self.set_header("Vary", "Origin")
        if origin is not None and self.site.origins.is_own_or_allowed(origin):
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Allow-Credentials", "true")
            # Without it a page of another origin cannot read Retry-After (Fetch, 3.3.3).
            self.set_header("Access-Control-Expose-Headers", "Retry-After")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send the error. Pages of allowed origins may read errors too."""
        self.answer_origin()
        super().write_error(status_code, **kwargs)

    async def head(self, *path: str) -> None:
        """Handle like GET; Tornado omits the body (RFC 9110 section 9.3.2)."""
        await cast("Awaitable[None]", self.get(*path))

    def options(self, *_: str) -> None:
        """Answer a CORS preflight request."""
        self.set_header("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
        self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type")
        self.set_header("Access-Control-Max-Age", "600")
        self.set_status(204)

    async def hold_back(self) -> None:
        """Delay the refusal of a client that continues past a limit, so that it cannot occupy the
        event loop.

        The number of delayed responses is bounded.
        """
        held = self.site.held_back
        if len(held) < MAX_HELD_BACK:
            held.add(self)
            try:
                await asyncio.sleep(HOLD_BACK_SECONDS)
            finally:
                held.discard(self)

    # ---- who calls -------------------------------------------------------------------------

    async def admit(self, access: Access) -> None:
        """Authenticate and authorise the caller.

        Raises:
            Unauthenticated, TokenExpired: there is no credential, or it is invalid.
            OriginRefused: the credential is a cookie, and the request may be forged.
            Forbidden: the call needs an administrator, and the caller is none; or the API key
                lacks the scope.
        """
        if access == "anyone":
            self.refuse_foreign_page()
            return
        token = self.access_token()
        if token.startswith(KEY_PREFIX) and access in KEY_SCOPES:
            self.key = await self.good_key(token, access)
            self.callers.enter("users", f"key {self.key.id}")
            self.acting()
            return
        claims = self.services.admission.verify(token)
        self.callers.enter("users", claims.sub)
        self.identity = await self.services.admission.identify(claims)
        self.acting()
        self.services.last_seen.record(claims.sid)
        if access not in USERS_MAY and not self.identity.is_admin:
            raise Forbidden("an administrator's call")

    async def require_step_up(self) -> None:
        """Require that the user has proved lately who they are (RFC 9470). API keys prove nothing
        of the kind, and need not.

        Raises:
            StepUpNeeded: they have not.
        """
        if self.key is None:
            await self.services.step_up.require(self.identity)

    async def good_key(self, token: str, access: Access) -> GoodKey:
        """Verify the request's API key. An invalid key is counted for the client's address; a valid
        one never is.

        Raises:
            Unauthenticated, Forbidden: as `ApiKeys.check`.
            RateLimited: too many invalid keys.
        """
        try:
            return await self.services.api_keys.check(token, *KEY_SCOPES[access])
        except Unauthenticated:
            limits, network = self.services.limits, network_of(self.client_ip)
            (await limits.take((limits.of.bad_keys, network))).require()
            raise

    def access_token(self) -> str:
        """The access token of the request, from the header, else from the cookie.

        Raises:
            Unauthenticated: there is no access token.
            OriginRefused: it is in the cookie, and the request may be forged.
        """
        header = self.request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.strip().partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("Authorization of another scheme")
            return token.strip()
        cookie = cookie_credential(self.request.headers, self.site.cookies.access)
        if cookie is None:
            raise Unauthenticated("no credential")
        self.require_own_page()
        return cookie.text

    def asked_method(self) -> str:
        """The request method that the CSRF rules apply to."""
        return self.request.method or ""

    def require_own_page(self) -> None:
        """Refuse a cookie-borne request that another site could have made (CSRF, ASVS 4.2.2).

        Raises:
            OriginRefused: it comes from another site, or its origin is not stated.
        """
        if self.asked_method() in SAFE_METHODS:
            return
        self.refuse_foreign_page()
        headers = self.request.headers
        if "Origin" not in headers and headers.get("Sec-Fetch-Site") != "same-origin":
            raise OriginRefused(
                "cookie without Origin or Sec-Fetch-Site: a program sends its token as a bearer"
            )

    def refuse_foreign_page(self) -> None:
        """Refuse requests from pages of other sites, including sign-ins (login CSRF).

        Raises:
            OriginRefused: it comes from another site.
        """
        if self.asked_method() in SAFE_METHODS:
            return
        headers = self.request.headers
        origin = headers.get("Origin")
        if origin is not None and not self.site.origins.is_own_or_allowed(origin):
            raise OriginRefused(self._refused())
        if origin is None and headers.get("Sec-Fetch-Site") == "cross-site":
            raise OriginRefused("request from another site")

    def _refused(self) -> str:
        headers = self.request.headers
        return self.site.origins.refused(headers.get("Origin"), headers.get("Host"))

    def device(self, client: str = "browser") -> Device:
        """Describe the device of a sign-in. `client`: "browser" or "native"."""
        agent = self.request.headers.get("User-Agent", "")
        shown = "".join(c for c in agent if c.isprintable())[:MAX_USER_AGENT]
        kept = self.get_cookie(self.site.cookies.device) or ""
        return Device(shown or "unknown", self.client_ip, kept, client)

    # ---- requests and responses ------------------------------------------------------------

    def decoded_body(self, decoder: msgspec.json.Decoder[Any]) -> Any:
        """Decode the JSON body to its type; an empty body counts as `{}`.

        Raises:
            BadRequest: the body is invalid; `detail` says where.
        """
        try:
            # Decoded to text first: raw parts are forwarded unparsed, and must be UTF-8.
            return decoder.decode(str(self.request.body, "utf-8") or "{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = str(error) if isinstance(error, msgspec.DecodeError) else "not JSON"
            raise BadRequest(f"body: {type(error).__name__}", detail=detail) from error

    def page_limit(self, default: int, most: int) -> int:
        """The `limit` of the query, within bounds.

        Raises:
            BadRequest: it is not a whole number above 0.
        """
        text = self.get_query_argument("limit", str(default))
        if not text.isdecimal() or not 0 < len(text) < 6 or int(text) == 0:
            raise BadRequest("limit", detail="limit: a whole number above 0")
        return min(int(text), most)

    def go_to(self, url: str) -> None:
        """Redirect the browser, with the operation's status."""
        self.set_header("Location", url)

    def answer(self, status: int, body: object) -> None:
        """Send the successful response."""
        self.set_status(status)
        if body is not None:
            self.set_header("Content-Type", "application/json")
            self.write(encode_json(body))


class UnknownRoute(ApiHandler):
    """Answers requests that match no route."""

    def prepare(self) -> None:
        super().prepare()
        raise NotFound("no such route")
