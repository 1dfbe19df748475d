"""Logout with acknowledgement: every node reports how many sockets it has closed."""

from __future__ import annotations

from collections import Counter

import msgspec

from services.errors import StoreUnavailable
from services.sessions.control import Control
from services.sessions.session_ends import SessionEnds
from services.sockets.nodes import Nodes
from services.sockets.session_pool import SessionPool

WAIT_SECONDS = 1.8
"""The contract gives 2 s for the answer; the rest is for the way."""


class NodeOutcome(msgspec.Struct, frozen=True):
    """One node: sockets that it has closed, and sockets that it has not acknowledged."""

    node: str
    closed: int
    pending: int


class Outcome(msgspec.Struct, frozen=True):
    """The result of a logout.

    Attributes:
        closed: sockets that are confirmed closed, on all nodes.
        pending: sockets of nodes that did not answer in time; None when nodes could not be
            asked. They read the revocation's row within 3 s, or are dead.
    """

    closed: int
    pending: int | None
    nodes: list[NodeOutcome]


class LogoutAcknowledgement:
    """Ends login sessions and waits for the acknowledgements of every node."""

    def __init__(
        self, session_ends: SessionEnds, pool: SessionPool, nodes: Nodes, control: Control
    ) -> None:
        self._ends, self._pool, self._nodes = session_ends, pool, nodes
        self._control = control

    async def end(self, user_id: str, sid: str, reason: str, token_id: str) -> Outcome:
        """End a login session and wait, up to two seconds, until its sockets are closed.

        Raises:
            NotFound: the user has no such active session.
        """
        me = self._nodes.node
        try:
            open_before = await self._pool.of_login_session(user_id, sid)
            others = await self._nodes.active() - {me}
        except StoreUnavailable:
            closed = await self._ends.end(user_id, sid, reason, token_id)
            return Outcome(closed, None, [NodeOutcome(me, closed, 0)])
        expected = Counter(session.node for session in open_before)
        with self._control.request() as request:
            here = await self._ends.end(user_id, sid, reason, token_id, request.name)
            answers = await request.gather(others, WAIT_SECONDS)
        outcomes = [NodeOutcome(me, here, 0)] + [
            NodeOutcome(node, answers.get(node, 0), 0 if node in answers else expected[node])
            for node in sorted(others)
        ]
        closed, pending = sum(o.closed for o in outcomes), sum(o.pending for o in outcomes)
        return Outcome(closed, pending, outcomes)
