"""Identifies callers for an app's own backends: introspection, forward authentication by a proxy,
and app tokens."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Annotated
from urllib.parse import quote

import msgspec

from handlers.api import ApiHandler
from handlers.http.auth import whole
from handlers.http.forms import form_values
from handlers.operations import Access, operation
from services.backends.app_keys import CACHE_SECONDS, PublicKey
from services.backends.introspection import Introspected
from services.errors import BadRequest, OriginRefused, UsherError

METHOD_HEADER = "X-Forwarded-Method"
MAX_AUDIENCE_LENGTH = 200

log = logging.getLogger("usher.http")


class AskAppToken(msgspec.Struct):
    """`audience`: one of the installation's APP_AUDIENCES."""

    audience: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_AUDIENCE_LENGTH)]


class AppTokenAnswer(msgspec.Struct, frozen=True):
    """A JWT for that backend, signed with ES256. `expires_in`: seconds."""

    token: str
    expires_in: int | float


class KeySet(msgspec.Struct, frozen=True):
    """A JWK Set (RFC 7517 section 5)."""

    keys: list[PublicKey]


class IntrospectHandler(ApiHandler):
    @operation(
        "Introspect an access token or app token (RFC 7662). For anything else, and for a revoked "
        "or expired token, the response only has `active: false`.",
        access="introspect",
        form={"token": "the token"},
        answer=Introspected,
    )
    async def post(self) -> Introspected:
        if self.looking is None:
            return await self.services.introspection.look(self.token())
        looking, self.looking = self.looking, None
        return await looking

    looking: asyncio.Future[Introspected] | None = None

    async def admit(self, access: Access) -> None:
        """Verify the API key. If it is cached, the token is looked up in the same round trip."""
        key = self.request.headers.get("Authorization", "").partition(" ")[2].strip()
        asked = form_values(self.request, "token")
        if len(asked) == 1 and asked[0] and self.services.api_keys.remembers(key, "introspect"):
            self.looking = asyncio.ensure_future(self.services.introspection.look(asked[0]))
        try:
            await super().admit(access)
        except BaseException:  # also if cancelled: the look-up must end
            if self.looking is not None:
                self.looking.cancel()
                with suppress(asyncio.CancelledError, UsherError):
                    await self.looking
            raise

    def token(self) -> str:
        """The token to introspect.

        Raises:
            BadRequest: there is not exactly one (RFC 7662 section 2.1, RFC 6749 section 3.2).
        """
        found = form_values(self.request, "token")
        if len(found) != 1 or not found[0]:
            raise BadRequest("introspection: not one token", detail="token: one, in a form")
        return found[0]


class VerifyHandler(ApiHandler):
    @operation(
        "Authenticate a request for a proxy. The headers `X-Usher-User-Id`, `-User-Name` "
        "(percent-encoded UTF-8), `-Role` and `-Session-Id` identify the user.",
        errors=(OriginRefused,),
    )
    async def get(self) -> None:
        identity = self.identity
        self.set_header("X-Usher-User-Id", identity.user_id)
        self.set_header("X-Usher-User-Name", quote(identity.name, safe=""))
        self.set_header("X-Usher-Role", identity.claims.role)
        self.set_header("X-Usher-Session-Id", identity.claims.sid)

    def asked_method(self) -> str:
        """The method of the request that the proxy forwards, if the proxy is trusted.

        A WebSocket handshake counts as unsafe although it is a GET, because a page of another site
        must not open a socket with the user's cookie (RFC 6455 section 10.2).
        """
        headers = self.request.headers
        if METHOD_HEADER not in headers:
            own = self.request.method or ""
        elif self.site.proxies.is_trusted(self.request.remote_ip or ""):
            own = headers[METHOD_HEADER].strip().upper()
        else:
            log.warning(
                "%s is not counted: it comes from %s, which is not in USHER_TRUSTED_PROXIES",
                METHOD_HEADER,
                self.request.remote_ip,
            )
            own = self.request.method or ""
        return "WEBSOCKET" if "Sec-WebSocket-Key" in headers else own


class AppTokenHandler(ApiHandler):
    @operation(
        "A token for one of your own backends, which checks it offline with the keys of "
        "`/.well-known/jwks.json`. It is good for nothing here.",
        body=AskAppToken,
        answer=AppTokenAnswer,
    )
    async def post(self, body: AskAppToken) -> AppTokenAnswer:
        issued = self.services.app_tokens.issue(self.identity, body.audience)
        return AppTokenAnswer(issued.token.reveal(), whole(issued.expires_in))


class KeySetHandler(ApiHandler):
    @operation("The public keys of app tokens (RFC 7517).", access="anyone", answer=KeySet)
    async def get(self) -> KeySet:
        self.set_header("Cache-Control", f"public, max-age={CACHE_SECONDS}")
        return KeySet(self.services.app_keys.published())
