"""Gathers the reports of all nodes for administrators.

Each node writes its report to one key in Redis, every two seconds and under a lease. To gather them
takes two round trips, however many sockets and users there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import msgspec

from services.errors import StoreUnavailable
from services.metrics import cut_quantile
from services.overview.meter import STEP_SECONDS, Meter, Report, Series
from services.overview.totals import Totals
from services.redis.store import Store
from services.sockets.nodes import Nodes

LIFE_MS = 15_000
"""Of a report, if its node stops or stalls."""

_DECODER = msgspec.json.Decoder(Report)
log = logging.getLogger("usher.overview")


class NodeOverview(msgspec.Struct, frozen=True):
    """One node. `answered_here`: whether it is the node that has answered this call. `rooms`:
    channels with a socket on this node. The quantiles are those of 15 minutes, in seconds; null
    without a revocation that closed a socket."""

    node: str
    answered_here: bool
    sockets: int
    rooms: int
    joins_per_minute: int
    messages_per_minute: int
    revocation_p50: float | None
    revocation_p99: float | None
    series: Series


class InstallationOverview(msgspec.Struct, frozen=True):
    """All nodes together, and each of them.

    Attributes:
        complete: false if Redis is unavailable, or a node has not reported lately: then the figures
            are those of the other nodes.
        rooms: channels, with or without sockets.
        users: accounts, also disabled ones.
        sessions: login sessions that have neither ended nor expired. Like `rooms` and `users`, it
            is up to ten seconds old.
        step_seconds: the length of a step of `series`.
    """

    complete: bool
    sockets: int
    rooms: int
    users: int
    sessions: int
    joins_per_minute: int
    messages_per_minute: int
    revocation_p50: float | None
    revocation_p99: float | None
    step_seconds: float
    nodes: list[NodeOverview]


class Overview:
    """The overview of an installation.

    Args:
        meter: of this node.
    """

    def __init__(self, store: Store, nodes: Nodes, meter: Meter, totals: Totals) -> None:
        self._store, self._nodes, self._meter, self._totals = store, nodes, meter, totals

    async def tick(self) -> None:
        """Measure, and publish the result to the other nodes.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        await self._meter.tick()
        if self._store.kind == "redis":
            text = msgspec.json.encode(self._meter.report())
            await self._store.call(("SET", _key(self._nodes.node), text, "PX", LIFE_MS))

    async def read(self) -> InstallationOverview:
        """The overview of now.

        Raises:
            DatabaseUnavailable, Busy: rows cannot be counted.
        """
        (reports, complete), totals = await asyncio.gather(self._gather(), self._totals.read())
        cuts: Counter[int] = Counter()
        for report in reports.values():
            cuts.update(report.cuts)
        me = self._nodes.node
        return InstallationOverview(
            complete,
            sum(report.sockets for report in reports.values()),
            totals.channels,
            totals.users,
            totals.sessions,
            sum(report.joins_per_minute for report in reports.values()),
            sum(report.messages_per_minute for report in reports.values()),
            cut_quantile(cuts, 0.5),
            cut_quantile(cuts, 0.99),
            STEP_SECONDS,
            [_shown(node, node == me, report) for node, report in sorted(reports.items())],
        )

    async def _gather(self) -> tuple[dict[str, Report], bool]:
        """The reports by node, and whether there is one of every live node."""
        found = {self._nodes.node: self._meter.report()}
        try:
            others = sorted(await self._nodes.active() - found.keys())
            texts = await self._store.call(*(("GET", _key(name)) for name in others))
        except StoreUnavailable as error:
            log.debug("only this node: %s", error.evidence)
            return found, False
        complete = True
        for name, text in zip(others, texts, strict=True):
            try:
                found[name] = _DECODER.decode(text or b"")
            except msgspec.DecodeError:  # of another version, while nodes are replaced; or none
                complete = False
        return found, complete


def _shown(node: str, answered_here: bool, report: Report) -> NodeOverview:
    return NodeOverview(
        node,
        answered_here,
        report.sockets,
        report.rooms,
        report.joins_per_minute,
        report.messages_per_minute,
        cut_quantile(report.cuts, 0.5),
        cut_quantile(report.cuts, 0.99),
        report.series,
    )


def _key(node: str) -> str:
    return f"usher:{{nodes}}:report:{node}"
