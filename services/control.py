"""What nodes tell each other: revocations. So far one node, so what is told stays here.

The node-to-node part has its own issue: a Redis Stream that each node follows from where it
stopped. It will publish in `Control.publish` and hand what it reads to the listeners. Nothing
else has to know: whoever revokes calls `Revocations.publish`, whoever holds sockets listens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

Kind = Literal["session", "token", "role", "access"]


class Revocation(msgspec.Struct, frozen=True):
    """One thing that is over.

    Attributes:
        kind: what `subject` is: a login session (`sid`), an access token (`jti`), or the user
            whose tokens and sockets of any other role than `role` are over, or the channel
            whose rights have changed ("access").
        user_id: whose it is; for "access" the user whose right in the channel changed, "*"
            where it may be anybody's.
        created_at: epoch seconds.
        id: number of its row; it tells a repeated message from a new one.
    """

    kind: Kind
    subject: str
    user_id: str
    reason: str
    created_at: float
    id: int
    role: str = ""


Listener = Callable[[Sequence[Revocation]], None]


class Control:
    """The one way for news of revocations from and to other nodes."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def on_revocations(self, listener: Listener) -> None:
        """Call `listener` with revocations that other nodes made."""
        self._listeners.append(listener)

    async def publish(self, revocations: Sequence[Revocation]) -> None:
        """Tell the other nodes. This node has acted already."""
        for listener in self._listeners:
            listener(revocations)
