"""The measurements of one node, step by step."""

from __future__ import annotations

import pytest

from services.metrics import FINE_BUCKETS, Metrics, cut_quantile
from services.overview.meter import STEP_SECONDS, STEPS, Meter


class Node:
    """A meter and all that it reads."""

    def __init__(self) -> None:
        self.metrics, self.now = Metrics(), 1000.0
        self.sockets = self.rooms = 0
        self.meter = Meter(self.metrics, lambda: self.sockets, lambda: self.rooms, lambda: self.now)

    def join(self, times: int) -> None:
        for _ in range(times):
            self.metrics.joins.inc("joined")

    async def step(self, steps: float = 1) -> None:
        self.now += steps * STEP_SECONDS
        await self.meter.tick()


@pytest.mark.gen_test
async def test_each_step_holds_what_happened_in_it() -> None:
    node = Node()
    node.join(3)
    node.sockets = 3
    node.metrics.joins.inc("unauthenticated")
    await node.step()
    node.join(1)
    node.sockets = 2
    for _ in range(4):
        node.metrics.frames.inc("message")
    node.metrics.frames.inc("heartbeat")
    await node.step()
    series = node.meter.report().series
    assert (series.sockets, series.joins, series.messages) == ([3, 2], [3, 1], [0, 4])
    assert series.revocation_p50 == [None, None]


@pytest.mark.gen_test
async def test_the_step_of_now_counts_for_the_minute_before_it_is_complete() -> None:
    node = Node()
    node.join(2)
    await node.step(0.5)
    report = node.meter.report()
    assert report.series.joins == []
    assert report.joins_per_minute == 2
    for _ in range(13):
        await node.step()
    assert node.meter.report().joins_per_minute == 0


@pytest.mark.gen_test
async def test_a_node_that_stood_still_has_a_step_for_each_that_it_missed() -> None:
    node = Node()
    node.join(5)
    node.sockets = 5
    await node.step(3.5)
    assert node.meter.report().series.joins == [5, 0, 0]
    await node.step()
    assert node.meter.report().series.sockets == [5, 5, 5, 5]
    node.join(1)
    await node.step(10 * STEPS)
    series = node.meter.report().series
    assert len(series.joins) == STEPS
    assert sum(series.joins) == 0, "what is older than 15 minutes is forgotten"


@pytest.mark.gen_test
async def test_the_ring_is_bounded() -> None:
    node = Node()
    for number in range(2 * STEPS):
        node.sockets = number
        await node.step()
    series = node.meter.report().series
    assert series.sockets == list(range(STEPS, 2 * STEPS))


@pytest.mark.gen_test
async def test_revocations_have_their_quantiles_in_each_step_and_over_all() -> None:
    node = Node()
    for _ in range(98):
        node.metrics.observe_cut(0.002)
    for _ in range(2):
        node.metrics.observe_cut(0.5)
    await node.step()
    await node.step()
    node.metrics.observe_cut(0.030)
    report = node.meter.report()
    assert report.series.revocation_p50 == [pytest.approx(0.002, rel=0.08), None]
    assert report.series.revocation_p99 == [pytest.approx(0.5, rel=0.08), None]
    assert sum(report.cuts.values()) == 101
    assert cut_quantile(report.cuts, 0.985) == pytest.approx(0.5, rel=0.08)


@pytest.mark.parametrize("seconds", [0.0, 0.0001, 0.00734, 0.1, 2.0, 9.9])
def test_a_quantile_is_at_most_eight_per_cent_off(seconds: float) -> None:
    metrics = Metrics()
    metrics.observe_cut(seconds)
    found = cut_quantile(metrics.cuts, 0.5)
    assert found == pytest.approx(max(seconds, 0.0001), rel=0.08)


def test_the_longest_times_share_the_last_bucket() -> None:
    metrics = Metrics()
    for seconds in (10.0, 1e3, 1e300):
        metrics.observe_cut(seconds)
    assert dict(metrics.cuts) == {FINE_BUCKETS - 1: 3}
    assert cut_quantile({}, 0.5) is None
