"""The base of every HTTP handler: authentication, client address, and error responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, cast

import msgspec
from tornado import web
from tornado.template import Loader

from handlers.cookies import CookieJar
from handlers.operations import KEY_SCOPES, USERS_MAY, Access, Operation
from handlers.problems import PROBLEM_TYPE, problem_body
from handlers.websocket.handshake import cookie_credential
from services.accounts.api_keys import PREFIX as KEY_PREFIX
from services.accounts.api_keys import GoodKey
from services.audit.events import Caller
from services.callers import Callers
from services.container import Services
from services.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    OriginRefused,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UsherError,
)
from services.limits.networks import network_of
from services.logs import redact
from services.sessions.admission import Identity
from services.sessions.session_views import Device
from services.settings.branding import Branding
from services.settings.origins import Origins
from services.settings.proxies import ClientAddress, Proxies
from services.websocket.protocol import encode_json

ADMIN_KIND = "admin.act"
ABOUT_USERS = frozenset(
    ("user.changed", "user.deleted", "user.signed_out", "member.set", "member.removed")
)
"""Kinds whose last name in the path is a user's."""
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
MAX_USER_AGENT = 200
HOLD_BACK_SECONDS = 1.0
MAX_HELD_BACK = 2000

log = logging.getLogger("usher.http")


class Site(msgspec.Struct, frozen=True):
    """The services that handlers use, and the settings of the HTTP side."""

    services: Services
    origins: Origins
    proxies: Proxies
    cookies: CookieJar
    pages: Loader
    branding: Branding = Branding()
    held_back: set[object] = msgspec.field(default_factory=set)
    """Refusals by a limit that are under way."""


AUDITED = (Unauthenticated, Forbidden, RateLimited)
"""Refusals that the audit trail has: somebody may not do what they tried."""


class MethodNotAllowed(UsherError):
    status, code, title = 405, "method_not_allowed", "This address does not take that method."


class BaseHandler(web.RequestHandler):
    """Sets security headers, sends errors as problem documents, and logs without secrets."""

    site: Site
    signs_in = False
    """Whether a refusal here is one of a sign-in, which the audit trail keeps."""
    drop_cookies = False
    """Whether a refusal takes the browser's cookies away, as they are good for nothing."""

    def initialize(self, site: Site) -> None:
        self.site = site

    def set_default_headers(self) -> None:
        self.clear_header("Server")  # do not disclose the version (ASVS 14.3.3)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        # RFC 6797; a year, as the preload lists ask for. Tornado calls this before `initialize`.
        if self.application.settings["is_secure"]:
            self.set_header("Strict-Transport-Security", "max-age=31536000")

    @property
    def services(self) -> Services:
        return self.site.services

    @property
    def callers(self) -> Callers:
        """The caller that each request's tasks work for."""
        return self.services.infrastructure.database.callers

    def address(self) -> ClientAddress:
        """The client's address. Forwarded addresses are used only from trusted proxies."""
        # Without `xheaders` Tornado returns the peer of the connection and ignores headers.
        return self.site.proxies.client_address(self.request.remote_ip or "", self.request.headers)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send the error as a problem document (RFC 9457)."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        refused = error if isinstance(error, UsherError) else _as_refusal(status_code)
        self.set_status(refused.status)
        self.set_header("Content-Type", PROBLEM_TYPE)
        self.set_header("Cache-Control", "no-store")
        if self.drop_cookies and isinstance(refused, Unauthenticated):
            self.site.cookies.clear(self)
        if isinstance(refused, Unauthenticated):
            self.set_header("WWW-Authenticate", "Bearer")
        if isinstance(refused, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.taken_methods()))
        if isinstance(refused, Unavailable):
            self.set_header("Retry-After", "1")
        if isinstance(refused, RateLimited):
            self.set_header("Retry-After", str(refused.retry_after))
        self.finish(problem_body(refused))

    def taken_methods(self) -> list[str]:
        """The methods of this resource, for `Allow` (RFC 9110 section 15.5.6)."""
        mine, default = type(self), web.RequestHandler
        taken = [m for m in _METHODS if getattr(mine, m.lower()) is not getattr(default, m.lower())]
        return taken if "GET" in taken else [m for m in taken if m != "HEAD"]

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log an error with the path only: query strings hold tickets and OAuth codes."""
        where = f"{self.request.method} {self.request.path}"
        if isinstance(value, AUDITED) or (self.signs_in and isinstance(value, UsherError)):
            self.audit_refusal(value)
        if isinstance(value, OriginRefused):
            log.warning("%s: %s", where, value.evidence)
        elif isinstance(value, UsherError):
            log.info("%s: %s: %s", where, value.code, value.evidence)
        elif not isinstance(value, web.HTTPError):
            log.error("%s failed", where, exc_info=(typ, value, tb))  # type: ignore[arg-type]

    def audit_refusal(self, error: UsherError) -> None:
        """Record a refused request in the audit trail."""
        where = "" if self.signs_in else redact(f"{self.request.method} {self.request.path}")
        self.services.audit.record(
            "session.refused" if self.signs_in else "request.refused",
            subject=error.about,
            reason=error.code,
            target=where,
            kept=self.signs_in,
        )

    def on_finish(self) -> None:
        status = str(self.get_status())
        self.services.metrics.requests.labels(
            method=_counted(self.request.method), status=status
        ).inc()


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
        self.services.audit.acting(Caller(actor, session, self.address().ip))

    def audit_operation(self, done: Operation, result: object) -> None:
        """Record a completed operation in the audit trail."""
        kind = done.audit
        if not kind and done.access == "admin" and self.request.method not in SAFE_METHODS:
            kind = ADMIN_KIND
        if not kind:
            return
        path = list(self.path_args)
        subject = path.pop() if path and kind in ABOUT_USERS else ""
        target = path[0] if path else str(getattr(result, "id", ""))
        if not self.path_args:  # the caller's own account, or a new one
            subject = getattr(getattr(result, "user", None), "id", "")
            subject = subject or (self.identity.user_id if result is None else "")
        self.services.audit.record(
            kind,
            subject=subject,
            actor=subject,
            target=target or ("" if subject else redact(self.request.path)),
        )

    def prepare(self) -> None:
        # Every caller is unauthenticated until a credential is verified.
        self.callers.enter("unauthenticated", network_of(self.address().ip))
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
            limits, network = self.services.limits, network_of(self.address().ip)
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
        return Device(shown or "unknown", self.address().ip, client=client)

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


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _counted(method: str | None) -> str:
    return method if method in _METHODS else "other"


def _as_refusal(status: int) -> UsherError:
    """Map Tornado's errors to Usher's."""
    kinds: dict[int, type[UsherError]] = {
        400: BadRequest,
        403: Forbidden,
        404: NotFound,
        405: MethodNotAllowed,
        413: TooLarge,
        503: Unavailable,
    }
    return kinds.get(status, UsherError)()
