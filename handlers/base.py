"""The base of every HTTP handler: security headers, client address, and error responses."""

from __future__ import annotations

import functools
import logging
from types import TracebackType
from typing import Any

import msgspec
from tornado import web
from tornado.template import Loader

from handlers.cookies import CookieJar
from handlers.page_files import PageFiles
from handlers.problems import PROBLEM_TYPE, problem_body
from services.composition.container import Services
from services.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    OriginRefused,
    RateLimited,
    SecondFactorNeeded,
    StepUpNeeded,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UsherError,
)
from services.event_loop.callers import Callers
from services.logs import redact
from services.settings.branding import Branding
from services.settings.origins import Origins
from services.settings.proxies import ClientAddress, Proxies

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))

log = logging.getLogger("usher.http")


class Site(msgspec.Struct, frozen=True):
    """The services that handlers use, and the settings of the HTTP side."""

    services: Services
    origins: Origins
    proxies: Proxies
    cookies: CookieJar
    pages: Loader
    files: PageFiles
    branding: Branding = Branding()
    held_back: set[object] = msgspec.field(default_factory=set)
    """Refusals by a limit that are under way."""


AUDITED = (Unauthenticated, Forbidden, RateLimited)
"""Refusals that the audit trail records: the caller lacks a right."""


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

    def at(self, path: str) -> str:
        """Where the browser finds a path of this server: below the path of PUBLIC_URL."""
        return self.site.origins.path + path

    def address(self) -> ClientAddress:
        """The client's address. Forwarded addresses are used only from trusted proxies."""
        # Without `xheaders` Tornado returns the peer of the connection and ignores headers.
        return self.site.proxies.client_address(self.request.remote_ip or "", self.request.headers)

    @functools.cached_property
    def client_ip(self) -> str:
        """Only the `ip` of `address`, determined once: each call asks for it several times."""
        return self.site.proxies.client_ip(self.request.remote_ip or "", self.request.headers)

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
        if isinstance(refused, StepUpNeeded):
            self.set_header("WWW-Authenticate", _insufficient(refused))
        if isinstance(refused, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.taken_methods()))
        if isinstance(refused, Unavailable):
            self.set_header("Retry-After", str(refused.retry_after))
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
            self._kind_of(error),
            subject=error.about,
            reason=error.code,
            target=where,
            kept=self.signs_in,
        )

    def _kind_of(self, refusal: UsherError) -> str:
        if isinstance(refusal, SecondFactorNeeded):
            return "session.second_factor_asked"
        return "session.refused" if self.signs_in else "request.refused"

    def on_finish(self) -> None:
        status = str(self.get_status())
        self.services.metrics.requests.labels(
            method=_counted(self.request.method), status=status
        ).inc()


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _insufficient(needed: StepUpNeeded) -> str:
    """The challenge of RFC 9470 section 3. `max_age` is in whole seconds, and has to be enough."""
    return (
        'Bearer error="insufficient_user_authentication", '
        f'error_description="{needed.title}", '
        f'max_age={int(needed.max_age)}, acr_values="{needed.acr}"'
    )


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
