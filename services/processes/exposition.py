"""Puts the metrics of several processes together, each series with the label `process`.

They are not summed: a process that is started again begins at 0, and only its own series may fall.
Prometheus interprets a decreasing counter as a restart, and its value as new.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

PROCESS = "process"


class Family(msgspec.Struct, array_like=True, frozen=True):
    """One metric with its samples: name, labels and value."""

    name: str
    text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


def families(registry: CollectorRegistry) -> list[Family]:
    """The metrics of this process as they are now."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(each.name, dict(each.labels), each.value) for each in metric.samples],
        )
        for metric in registry.collect()
    ]


def together(processes: Mapping[str, Iterable[Family]]) -> bytes:
    """The text format of the metrics of several processes.

    Args:
        processes: by the value of the label.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Together(processes))
    return generate_latest(registry)


class _Together(Collector):
    def __init__(self, processes: Mapping[str, Iterable[Family]]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for process, found in self._processes.items():
            for family in found:
                metric = merged.get(family.name)
                if metric is None:
                    metric = Metric(family.name, family.text, family.kind)
                    merged[family.name] = metric
                for name, labels, value in family.samples:
                    metric.add_sample(name, {PROCESS: process, **labels}, value)
        yield from merged.values()
