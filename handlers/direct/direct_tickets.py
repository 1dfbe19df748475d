"""Gives out tickets without a Tornado request: the usual case, and only that.

The checks are those of TicketHandler, in the same order. Whatever they refuse is not refused here:
Tornado gets the request unread, checks it again, and answers. So a ticket given here is one that
TicketHandler would have given, in the same words.
"""

from __future__ import annotations

import time

from tornado.httputil import format_timestamp

from handlers.base import Site
from handlers.direct.plain_call import PlainCall
from handlers.http.auth import whole
from handlers.http.tickets import TicketAnswer
from handlers.websocket.handshake import cookie_credential
from handlers.websocket.plain_head import PlainFields
from services.accounts.api_keys import PREFIX as KEY_PREFIX
from services.audit.events import Caller
from services.errors import UsherError
from services.limits.networks import network_of
from services.websocket.protocol import encode_json

_BEARER = "Bearer "
_STRICT_TRANSPORT = "Strict-Transport-Security: max-age=31536000\r\n"
_ANSWER = (
    "HTTP/1.1 201 Created\r\n"
    "Content-Type: application/json\r\n"
    "Date: {date}\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "{transport}"
    "Cache-Control: no-store\r\n"
    "Vary: Origin\r\n"
    "{cors}"
    "Content-Length: {length}\r\n"
    "\r\n"
)
_CORS = (
    "Access-Control-Allow-Origin: {origin}\r\n"
    "Access-Control-Allow-Credentials: true\r\n"
    "Access-Control-Expose-Headers: Retry-After\r\n"
)


class DirectTickets:
    """Answers plain requests for a ticket."""

    def __init__(self, site: Site) -> None:
        self._site, self._services = site, site.services
        self._callers = site.services.infrastructure.database.callers
        self._counted = site.services.metrics.requests.labels(method="POST", status="201")
        self._transport = _STRICT_TRANSPORT if site.origins.secure else ""
        self._second, self._date = 0, ""

    async def answer(self, call: PlainCall, peer: str) -> bytes | None:
        """The response; None if this request is not the usual case, or is to be refused.

        Args:
            peer: the address of the peer.
        """
        fields, services = call.fields, self._services
        origin = fields.get("Origin")
        if origin is not None and not self._site.origins.is_own_or_allowed(origin):
            return None
        token = self._token(fields, origin)
        if not token or token.startswith(KEY_PREFIX):
            return None
        address = self._site.proxies.client_ip(peer, fields)
        # Nobody is known before a credential is verified, as in ApiHandler.prepare.
        self._callers.enter("unauthenticated", network_of(address))
        services.audit.acting(Caller("", "", address))
        try:
            claims = services.admission.verify(token)
            self._callers.enter("users", claims.sub)
            identity = await services.admission.identify(claims)
            services.audit.acting(Caller(identity.user_id, claims.sid, address))
            services.last_seen.record(claims.sid)
            ticket = await services.tickets.issue(identity.claims)
        except UsherError:
            return None
        self._counted.inc()
        body = encode_json(TicketAnswer(ticket.reveal(), whole(services.tickets.ttl)))
        return self._head(origin, len(body)) + body

    def _token(self, fields: PlainFields, origin: str | None) -> str:
        """The access token of the request; "" if there is none in one of the usual places."""
        header: str | None = fields.get("Authorization")
        if header is not None:
            return header[len(_BEARER) :].strip() if header.startswith(_BEARER) else ""
        if origin is None:  # then it may be of another site, as Tornado will see
            return ""
        cookie = cookie_credential(fields, self._site.cookies.access)
        return cookie.text if cookie is not None else ""

    def _head(self, origin: str | None, length: int) -> bytes:
        now = time.time()
        if int(now) != self._second:
            self._second, self._date = int(now), format_timestamp(now)
        cors = "" if origin is None else _CORS.format(origin=origin)
        head = _ANSWER.format(date=self._date, transport=self._transport, cors=cors, length=length)
        return head.encode("ascii")
