"""The metrics of several processes as one text."""

from __future__ import annotations

import math
import re

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from services.metrics import Metrics
from services.processes.exposition import families, together
from services.processes.link import FROM_WORKER, LENGTH_BYTES, Families, encode


def parsed(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_each_series_has_its_process_and_each_metric_is_said_once() -> None:
    one, two = Metrics(), Metrics()
    one.joins.inc("joined")
    two.joins.inc("joined")
    two.joins.inc("unavailable")
    two.revocation_seconds.observe(0.02)
    text = together({"1": families(one.registry), "2": families(two.registry)})
    found = parsed(text)
    joined = "usher_joins_total", (("outcome", "joined"), ("process", "1"))
    assert found[joined] == 1
    unavailable = "usher_joins_total", (("outcome", "unavailable"), ("process", "2"))
    assert found[unavailable] == 1
    assert found["usher_revocation_seconds_bucket", (("le", "0.025"), ("process", "2"))] == 1
    assert found["usher_revocation_seconds_count", (("process", "1"),)] == 0
    named = re.findall(rb"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(named) == len(set(named))
    alone = re.findall(rb"^# (?:TYPE|HELP) .*", one.expose(), re.MULTILINE)
    assert set(alone) <= set(re.findall(rb"^# (?:TYPE|HELP) .*", text, re.MULTILINE))


def test_a_series_that_names_its_process_keeps_it() -> None:
    registry = CollectorRegistry()
    Gauge("up", "Up.", ["process"], registry=registry).labels("2").set(1)
    assert parsed(together({"supervisor": families(registry)})) == {("up", (("process", "2"),)): 1}


def test_values_without_a_json_form_are_passed_between_processes() -> None:
    registry = CollectorRegistry()
    for name, value in (("a", math.inf), ("b", -math.inf), ("c", math.nan)):
        Gauge(name, name, registry=registry).set(value)
    message = FROM_WORKER.decode(encode(Families(1, families(registry)))[LENGTH_BYTES:])
    assert isinstance(message, Families)
    found = [sample[2] for family in message.families for sample in family.samples]
    assert found[:2] == [math.inf, -math.inf]
    assert math.isnan(found[2])
