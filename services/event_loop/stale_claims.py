"""Finds claims of dead nodes.

A node claims a row with a random text before it works on it. If a claim does not change for a
while, by the monotonic clock of the node that watches it, its node is dead or suspended. So no wall
clock decides which node works on a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set


class StaleClaims:
    """Records since when claims have not changed.

    Args:
        seconds: how long a claim may stay unchanged.
        monotonic: a monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds, self._monotonic = seconds, monotonic
        self._seen: dict[int, tuple[str, float]] = {}

    def find(self, there: Mapping[int, str], mine: Set[int]) -> dict[int, str]:
        """The claims that have not changed for too long.

        Args:
            there: the claims of all nodes, by row.
            mine: rows that this node works on.
        """
        now, seen = self._monotonic(), self._seen
        self._seen = {
            id_: seen[id_] if id_ in seen and seen[id_][0] == token else (token, now)
            for id_, token in there.items()
            if id_ not in mine
        }
        return {
            id_: token for id_, (token, since) in self._seen.items() if now - since >= self._seconds
        }
