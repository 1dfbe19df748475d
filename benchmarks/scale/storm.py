"""A simulation of sockets that come back after nodes stopped: how long the last one waits.

Discrete, in arrivals: each client of the stopped nodes reconnects to a node at random after its
pause, and a node serves joins one after the other. Redis serves all of them; it has `masters`. The
pauses are those of the client: `after` of the `closing` event where a node shuts down, else full
jitter below a ceiling that doubles (static/usher.js).
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from benchmarks.scale.model import Inputs

SEED = 14
SECOND = 1.0
MANY = 200_000


@dataclass(frozen=True)
class Storm:
    """What happened.

    Attributes:
        returned: how many sockets.
        p50, p99, last: seconds from the stop to the join, quantiles over all.
        redis: cores that Redis needed in the busiest second.
        database: rows looked up in the busiest second; 0 as long as Redis knows the sessions.
    """

    returned: int
    p50: float
    p99: float
    last: float
    redis: float
    database: float


def storm(
    inputs: Inputs, nodes: int, stopped: int, *, drained: bool, redis_empty: bool = False
) -> Storm:
    """Stop some nodes at one moment, and let their sockets join the others.

    Args:
        drained: they are shut down, and spread the closing; otherwise they are killed.
        redis_empty: Redis has forgotten everything, too: all joins are first joins.
    """
    given, dice = inputs.assumed, random.Random(SEED)
    left = max(1, nodes - stopped) if stopped < nodes else nodes
    returned = int(stopped * given["sockets per node"])
    # Nodes are alike: of very many sockets, a tenth of them is simulated on a tenth of the nodes.
    part = 10 if returned > MANY and left >= 20 else 1
    returning, left = returned // part, left // part
    cost = inputs.costs["first join, node" if redis_empty else "join, node"] / 1e6
    free = [0.0] * left
    waits, per_second = [], Counter[int]()
    for arrival in sorted(_pause(given, dice, drained) for _ in range(returning)):
        node = dice.randrange(left)
        begin = max(arrival, free[node])
        free[node] = begin + cost / given["full"]  # the rest of the core has its usual work
        waits.append(free[node])
        per_second[int(free[node] / SECOND)] += 1
    waits.sort()
    busiest = part * max(per_second.values())
    return Storm(
        returned,
        waits[len(waits) // 2],
        waits[len(waits) * 99 // 100],
        waits[-1],
        busiest * inputs.costs["join, Redis"] / 1e6,
        busiest if redis_empty else 0,
    )


def _pause(given: dict[str, float], dice: random.Random, drained: bool) -> float:
    """Seconds until a client comes back."""
    if drained:
        closing = dice.uniform(0, given["seconds of a drain"])
        return closing + dice.uniform(given["least seconds after"], given["most seconds after"])
    return dice.uniform(0, given["seconds of the first pause"])
