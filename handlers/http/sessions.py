"""The caller's own login sessions."""

from __future__ import annotations

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.claims import Claims
from services.composition.container import Services
from services.errors import NotFound, StoreUnavailable
from services.sessions.session_views import PastSession


class Session(msgspec.Struct, frozen=True):
    """A login session. Times are epoch seconds. `live_sockets`: its open sockets on all nodes.
    `client`: `browser`, `native` (an app), or empty if it was created before version 1.1."""

    id: str
    device: str
    ip: str
    client: str
    method: str
    created_at: float
    last_seen_at: float
    expires_at: float
    live_sockets: int
    current: bool


class SessionList(msgspec.Struct, frozen=True):
    items: list[Session]


class PastSessionList(msgspec.Struct, frozen=True):
    """The last sessions that ended before they expired, at most 20. `reason`: why a session ended,
    for example `session_limit` if a newer one exceeded MAX_SESSIONS_PER_USER."""

    items: list[PastSession]


async def sessions_of(services: Services, claims: Claims) -> list[Session]:
    """The active login sessions of the user of `claims`, last used first.

    Raises:
        Unavailable: the database cannot answer.
    """
    rows = await services.login_sessions.active(claims.sub)
    counts = await _live_sockets(services, claims.sub)
    return [
        Session(
            **msgspec.structs.asdict(row),
            live_sockets=counts.get(row.id, 0),
            current=row.id == claims.sid,
        )
        for row in rows
    ]


async def _live_sockets(services: Services, user_id: str) -> dict[str, int]:
    """Open sockets by login session; if Redis is unavailable, only those of this node."""
    try:
        return await services.pool.counts(user_id)
    except StoreUnavailable:
        counted: dict[str, int] = {}
        for socket in services.hub.of_user(user_id):
            sid = socket.session.login_session_id
            counted[sid] = counted.get(sid, 0) + 1
        return counted


class SessionsHandler(ApiHandler):
    @operation(
        "The user's active login sessions, last used first; or those that ended recently.",
        answer=SessionList | PastSessionList,
        query={"ended": "`true`: the sessions that ended before they expired, with the reason"},
    )
    async def get(self) -> SessionList | PastSessionList:
        claims = self.identity.claims
        if self.get_query_argument("ended", "") == "true":
            return PastSessionList(await self.services.login_sessions.ended(claims.sub))
        return SessionList(await sessions_of(self.services, claims))

    @operation("End every login session of the user but this one.", status=204)
    async def delete(self) -> None:
        claims = self.identity.claims
        await self.services.session_ends.end_all(claims.sub, "signed_out", but=claims.sid)


class SessionHandler(ApiHandler):
    @operation("End one of the user's login sessions.", status=204, errors=(NotFound,))
    async def delete(self, session_id: str) -> None:
        claims = self.identity.claims
        await self.services.session_ends.end(claims.sub, session_id, "signed_out")
        if session_id == claims.sid:
            self.site.cookies.clear(self)
