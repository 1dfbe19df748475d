"""Tickets for opening sockets."""

from __future__ import annotations

import msgspec

from handlers.api import ApiHandler
from handlers.http.auth import whole
from handlers.operations import operation
from services.errors import RateLimited


class TicketAnswer(msgspec.Struct, frozen=True):
    """A ticket for `/ws?ticket=…`. `expires_in`: seconds."""

    ticket: str
    expires_in: int | float


class TicketHandler(ApiHandler):
    @operation(
        "A ticket that opens one socket, once, for this login session.",
        status=201,
        answer=TicketAnswer,
        errors=(RateLimited,),
    )
    async def post(self) -> TicketAnswer:
        tickets = self.services.tickets
        ticket = await tickets.issue(self.identity.claims)
        return TicketAnswer(ticket.reveal(), whole(tickets.ttl))
