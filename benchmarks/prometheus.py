"""Histograms and gauges at /metrics, as a Prometheus server reads it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from benchmarks.http_load import call_all, request
from benchmarks.servers import Server

_BUCKET = re.compile(r'^(\w+)_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Histogram:
    """Cumulative counts by upper bound, the last one infinite."""

    buckets: tuple[tuple[float, float], ...]

    @property
    def count(self) -> int:
        return int(self.buckets[-1][1])

    def since(self, before: Histogram) -> Histogram:
        """What has been observed since an earlier reading."""
        pairs = zip(self.buckets, before.buckets, strict=True)
        return Histogram(tuple((bound, now - then) for (bound, now), (_, then) in pairs))

    def quantile(self, share: float) -> float:
        """Seconds, within its bucket by straight line, as PromQL's histogram_quantile."""
        rank = share * self.count
        low, below = 0.0, 0.0
        for bound, count in self.buckets:
            if count >= rank and count > below:
                if math.isinf(bound):
                    return low
                return low + (bound - low) * (rank - below) / (count - below)
            low, below = bound, count
        return low


def read_histogram(server: Server, name: str) -> Histogram:
    """A histogram without labels from a server's /metrics. Raises LookupError without it."""
    samples = _BUCKET.findall(_read(server))
    found = [(float(b), float(count)) for one, b, count in samples if one == name]
    if not found:
        raise LookupError(f"no histogram {name} at /metrics")
    return Histogram(tuple(sorted(found)))


def read_gauge(server: Server, name: str) -> float:
    """A gauge without labels from a server's /metrics. Raises LookupError without it."""
    found = re.search(rf"^{name} (\S+)$", _read(server), re.MULTILINE)
    if found is None:
        raise LookupError(f"no gauge {name} at /metrics")
    return float(found[1])


def _read(server: Server) -> str:
    (answer,) = call_all(server.address, [request(server.address, "GET", "/metrics")], 1)
    return answer.body.decode()
