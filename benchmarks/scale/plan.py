"""What is done as an installation grows: each step, and whether Usher has it today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.scale.model import Design


@dataclass(frozen=True)
class Step:
    """A step of the plan. `where`: the code or document of what is built."""

    title: str
    change: Callable[[Design], Design]
    where: str = ""


STEPS = (
    Step(
        "Redis Cluster of 50 masters: keys of users, sockets and rooms have slots of their own",
        lambda design: replace(design, masters=50),
        "docs/operations.md, Redis",
    ),
    Step(
        "PgBouncer: nodes share connections to PostgreSQL",
        lambda design: replace(design, pooled=True),
        "docs/operations.md, PostgreSQL",
    ),
    Step(
        "Sharded publish/subscribe (SSUBSCRIBE): a message reaches the master of its room only",
        lambda design: replace(design, sharded_channels=True),
    ),
    Step(
        "Presence read again only if the version of a room's index has changed",
        lambda design: replace(design, presence_on_change=True),
    ),
    Step(
        "Presence by count in rooms of more than 1,000 sockets",
        lambda design: replace(design, count_above=1_000),
    ),
    Step(
        "Placement: the proxy sends the sockets of a tenant to the same 4 nodes",
        lambda design: replace(design, placed_rooms=4),
    ),
    Step(
        "One lease for a node instead of one for each of its sockets",
        lambda design: replace(design, node_leases=True),
    ),
    Step(
        "PostgreSQL and the feed of revocations divided by user into 8 shards",
        lambda design: replace(design, databases=8, feeds=8),
    ),
)
BUILT_ALREADY = (
    ("A usual join needs one round trip to Redis and no query", "services/sessions/admission.py"),
    ("First joins of one moment share their queries", "services/sessions/login_states.py"),
    ("One row ends all login sessions of a user", "services/sessions/session_ends.py"),
    (
        "A lost message between nodes is found in the database within a second",
        "services/sessions/revocations.py",
    ),
    ("Records of a dead node end by their lease: no leader, no reaper", "services/sockets"),
    ("Presence events are batched, fewer in larger rooms", "services/rooms/presence.py"),
    ("All cores of a machine serve one port: PROCESSES", "services/processes"),
    ("A frame is built once for all members", "services/websocket/frame_writer.py"),
    ("Clients come back spread over seconds", "static/usher.js; docs/operations.md"),
)
"""What today's figures include: the step, and where it is."""


def designs() -> list[tuple[Step | None, Design]]:
    """Today's smallest design, and those with the steps up to each."""
    found: list[tuple[Step | None, Design]] = [(None, Design())]
    for step in STEPS:
        found.append((step, step.change(found[-1][1])))
    return found
