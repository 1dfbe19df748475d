"""Prometheus metrics, in a registry of their own so that two servers in one process do not mix."""

from __future__ import annotations

import math
from collections import Counter as Counts
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CUT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)

FINE_PER_DECADE, FINE_LEAST, FINE_BUCKETS = 16, 0.0001, 81
"""Buckets of `Metrics.cuts`: 16 in each power of ten, from 0.1 ms to 10 s."""


def cut_quantile(cuts: Mapping[int, int], part: float) -> float | None:
    """A quantile of `Metrics.cuts` in seconds, at most 8 % off; None if there is nothing.

    Args:
        part: 0.5 for the median.
    """
    total = sum(cuts.values())
    rank, seen = math.ceil(part * total), 0
    for bucket in sorted(cuts):
        seen += cuts[bucket]
        if total and seen >= rank:
            return float(FINE_LEAST * 10 ** (bucket / FINE_PER_DECADE))
    return None


class LabelledCounter(Collector):
    """A counter with one label, for what happens at every join and message.

    It counts in a dictionary, and hands that over to the library's counter when it is collected: to
    count there takes five calls and a lock.
    """

    def __init__(self, counter: Counter, label: str) -> None:
        self._counter, self._label = counter, label
        self._children: dict[str, Counter] = {}
        self._new: dict[str, int] = {}
        """What was counted since the last collection."""

    def inc(self, value: str) -> None:
        """Increment the counter of a label value. There must be only few values. Call it on the
        event loop only."""
        try:
            self._new[value] += 1
        except KeyError:
            self._children[value] = self._counter.labels(**{self._label: value})
            self._new[value] = 1

    def count(self, value: str) -> int:
        """The counter of a label value; 0 before the first."""
        samples = (sample for metric in self.collect() for sample in metric.samples)
        return sum(
            int(sample.value)
            for sample in samples
            if sample.labels[self._label] == value and sample.name.endswith("_total")
        )

    def collect(self) -> Iterable[Metric]:
        """The samples, for the registry."""
        for value, count in self._new.items():
            if count:
                self._children[value].inc(count)
                self._new[value] = 0
        return self._counter.collect()


class Metrics:
    """All metrics. No label contains a user, an address or a token."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.build = Info("usher_build", "The version of this node.", registry=self.registry)
        self.sockets = Gauge(
            "usher_sockets", "Joined sockets on this node.", registry=self.registry
        )
        self.compressed_sockets = Gauge(
            "usher_compressed_sockets",
            "Sockets of this node with permessage-deflate.",
            registry=self.registry,
        )
        self.joins = self._labelled("usher_joins", "Joins, by outcome.", "outcome")
        self.closes = self._labelled("usher_closes", "Sockets closed, by close code.", "code")
        self.frames = self._labelled("usher_frames", "Frames from clients, by event.", "event")
        self.sockets_revoked = self._counter(
            "usher_sockets_revoked", "Sockets closed by a revocation, by its reason.", "reason"
        )
        self.revocation_seconds = Histogram(
            "usher_revocation_seconds",
            "From recording a revocation to closing its sockets on this node.",
            buckets=CUT_BUCKETS,
            registry=self.registry,
        )
        self.cuts: Counts[int] = Counts()
        """How many revocations closed their sockets, by time, in finer buckets than those of
        `revocation_seconds`; see `cut_quantile`."""
        self.revocations_without_redis = self._counter(
            "usher_revocations_without_redis", "Revocations that could not be written to Redis."
        )
        self.joins_by_database = self._counter(
            "usher_joins_by_database",
            "Login sessions looked up in the database, by cause.",
            "cause",
        )
        self.news_untold = self._counter(
            "usher_news_untold",
            "Messages not sent to other nodes, which read the rows instead.",
        )
        self.redis_up = Gauge("usher_redis_up", "1 while Redis answers.", registry=self.registry)
        self.redis_memory = Gauge(
            "usher_redis_memory_used_ratio",
            "Part of Redis' maxmemory that is used; 0 without one.",
            registry=self.registry,
        )
        self.database_up = Gauge(
            "usher_database_up", "1 while the database answers.", registry=self.registry
        )
        self.redis_restarts = self._counter(
            "usher_embedded_redis_restarts", "Times the embedded Redis had to be started again."
        )
        self.loop_errors = self._counter(
            "usher_loop_errors", "Iterations of a background loop that failed, by loop.", "loop"
        )
        self.sign_ins = self._counter("usher_sign_ins", "Sign-ins, by outcome.", "outcome")
        self.oauth_sign_ins = self._counter(
            "usher_oauth_sign_ins",
            "Sign-ins and linkings at providers, by outcome.",
            "provider",
            "outcome",
        )
        self.oauth_refreshes = self._counter(
            "usher_oauth_refreshes", "Refreshes of provider tokens, by outcome.", "outcome"
        )
        self.oauth_given_back = self._counter(
            "usher_oauth_given_back", "Provider tokens given back, by outcome.", "outcome"
        )
        self.oauth_logouts = self._counter(
            "usher_oauth_logouts", "Logout tokens of providers, by outcome.", "outcome"
        )
        self.rate_limits_without_redis = self._counter(
            "usher_rate_limits_without_redis", "Rate limits that a node had to count by itself."
        )
        self.audit_dropped = self._counter(
            "usher_audit_dropped", "Entries of the audit trail that were too many at once.", "what"
        )
        self.webhook_deliveries = self._counter(
            "usher_webhook_deliveries",
            "Attempts to deliver events to webhooks, by outcome.",
            "outcome",
        )
        self.webhook_pending = Gauge(
            "usher_webhook_pending",
            "Events that wait for webhooks, in the database; every node says the same.",
            registry=self.registry,
        )
        self.webhook_dropped = self._counter(
            "usher_webhook_dropped", "Events of sockets that were too many at once."
        )
        self.mails = self._counter("usher_mails", "Mails, by outcome.", "outcome")
        self.mails_waiting = Gauge(
            "usher_mails_waiting",
            "Mails that wait to be sent, in the database; every node says the same.",
            registry=self.registry,
        )
        self.mail_up = Gauge(
            "usher_mail_up",
            "1 while mails can be sent, as far as this node has tried.",
            registry=self.registry,
        )
        self.requests = self._counter(
            "usher_http_requests", "HTTP requests, by method and status.", "method", "status"
        )

    def observe_cut(self, seconds: float) -> None:
        """Count a revocation that has closed sockets of this node."""
        self.revocation_seconds.observe(seconds)
        bucket = round(FINE_PER_DECADE * math.log10(max(seconds, FINE_LEAST) / FINE_LEAST))
        self.cuts[min(bucket, FINE_BUCKETS - 1)] += 1

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _labelled(self, name: str, text: str, label: str) -> LabelledCounter:
        counter = LabelledCounter(Counter(name, text, (label,), registry=None), label)
        self.registry.register(counter)
        return counter

    def expose(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        return generate_latest(self.registry)
