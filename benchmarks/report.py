"""From samples to a table and a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import (
    BARE,
    CALIBRATION,
    NODES,
    SHARES,
    TORNADO,
    USHER,
    Figure,
    Measurement,
    Sample,
)

RESULTS = Path(__file__).resolve().parent / "results"
FULL_PERCENT = 90
SHOWN = {USHER: "Usher", TORNADO: "through Tornado", NODES: "2 nodes", BARE: "bare"}
PAIRS = ((USHER, BARE), (TORNADO, USHER), (NODES, USHER))
"""What is divided by what, where a measurement has both."""


@dataclass(frozen=True)
class Spread:
    """A median over rounds, and the lowest and the highest round."""

    middle: float
    low: float
    high: float

    @property
    def percent(self) -> float:
        """Half the distance between the outer rounds, in per cent of the middle."""
        return 50 * (self.high - self.low) / abs(self.middle) if self.middle else 0.0


@dataclass(frozen=True)
class Outcome:
    """A measurement with the samples of all its rounds, by subject."""

    measurement: Measurement
    samples: Mapping[str, Sequence[Sample]]


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile: a value that was really measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def _per_round(figure: Figure, samples: Sequence[Sample]) -> list[float]:
    if figure.pool:
        pools = [sample.pools[figure.pool] for sample in samples if figure.pool in sample.pools]
        return [quantile(pool, figure.quantile) for pool in pools]
    return [sample.values[figure.name] for sample in samples if figure.name in sample.values]


def summary(figure: Figure, samples: Sequence[Sample]) -> Spread | None:
    """One figure of one subject; None where the subject does not have it."""
    rounds = _per_round(figure, samples)
    if not rounds:
        return None
    if figure.pool:
        pooled = [value for sample in samples for value in sample.pools[figure.pool]]
        return Spread(quantile(pooled, figure.quantile), min(rounds), max(rounds))
    return spread(rounds)


def ratio(figure: Figure, outcome: Outcome, pair: tuple[str, str]) -> Spread | None:
    """The figure of one subject divided by another's, round by round."""
    if not figure.compare or not outcome.samples.keys() >= set(pair):
        return None
    ours, theirs = (_per_round(figure, outcome.samples[subject]) for subject in pair)
    if not ours or not theirs or not all(theirs):
        return None
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def ratios(figure: Figure, outcome: Outcome) -> dict[tuple[str, str], Spread]:
    """Every ratio that there is of a figure."""
    found = ((pair, ratio(figure, outcome, pair)) for pair in PAIRS)
    return {pair: value for pair, value in found if value is not None}


def _subjects(outcome: Outcome) -> list[str]:
    """The columns: who was measured."""
    return [name for name in SHOWN if name in outcome.samples]


def _cell(figure: Figure, value: Spread | None) -> str:
    if value is None:
        return f"{'-':>18}"
    shown = f"{value.middle:>11,.{figure.digits}f}"
    if figure.unit == "%":  # a share: points say more than per cent of per cent
        return f"{shown} ±{(value.high - value.low) / 2:>3.0f}  "
    return f"{shown} ±{value.percent:>3.0f} %" if value.high != value.low else f"{shown}{'':7}"


def _row(figure: Figure, outcome: Outcome) -> str:
    columns = _subjects(outcome)
    cells = [_cell(figure, summary(figure, outcome.samples.get(name, ()))) for name in columns]
    against = (
        f"{r.middle:.2f} ({r.low:.2f}-{r.high:.2f})" for r in ratios(figure, outcome).values()
    )
    label = f"{figure.name} {figure.unit}".strip()
    shown = "".join(f"   {one:<18}" for one in against)
    return f"  {label:<46}{''.join(cells)}{shown}".rstrip()


def table(outcome: Outcome) -> str:
    """One measurement, readable."""
    heads = "".join(f"{SHOWN[name]:>18}" for name in _subjects(outcome))
    names = [f"{SHOWN[a]} ÷ {SHOWN[b]}" for a, b in PAIRS if {a, b} <= outcome.samples.keys()]
    heads += "".join(f"   {name:<18}" for name in names)
    sizes = {
        sum(len(pool) for sample in samples for pool in list(sample.pools.values())[:1])
        for samples in outcome.samples.values()
    } - {0}
    of = f" (over {', '.join(f'{size:,}' for size in sorted(sizes))})" if sizes else ""
    lines = [f"{outcome.measurement.title}{of}", f"  {'':<46}{heads}".rstrip()]
    lines += [_row(figure, outcome) for figure in (*outcome.measurement.figures, CALIBRATION)]
    lines += [f"  ! {caution}" for caution in cautions(outcome)]
    return "\n".join(lines)


def cautions(outcome: Outcome) -> list[str]:
    """What makes the figures of an outcome doubtful: a full generator, an idle or shared server."""
    found: list[str] = []
    for subject, samples in outcome.samples.items():
        shares = {
            figure.name: value.middle for figure in SHARES if (value := summary(figure, samples))
        }
        if not shares:
            continue
        server, others, generator, store = (shares[figure.name] for figure in SHARES)
        load = generator + store
        if load > FULL_PERCENT:
            found.append(f"{SHOWN[subject]}: the load's core was {load:.0f} % busy, it may limit")
        if server < FULL_PERCENT:
            found.append(
                f"{SHOWN[subject]}: the server had {server:.0f} % of its core, other processes "
                f"{others:.0f} %; trust the CPU per 1,000, not the rate"
            )
    return found


def footer(calibration: Sequence[float]) -> str:
    """How far the machine itself can be trusted."""
    noise = spread(calibration)
    return (
        f"The machine's noise: a fixed loop took {noise.middle:.1f} ms on the server's core, "
        f"{noise.low:.1f}-{noise.high:.1f} over {len(calibration)} tries "
        f"(±{noise.percent:.0f} %).\n"
        "± is half the distance between the outer rounds (in points for shares of a core).\n"
        "Ratios are medians of the rounds' own ratios, their range in brackets."
    )


def _figures(outcome: Outcome) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for figure in (*outcome.measurement.figures, CALIBRATION):
        row: dict[str, Any] = {"name": figure.name, "unit": figure.unit}
        for subject, samples in outcome.samples.items():
            found = summary(figure, samples)
            row[subject] = asdict(found) if found else None
        for (ours, theirs), against in ratios(figure, outcome).items():
            row[f"{ours} / {theirs}"] = asdict(against)
        rows.append(row)
    return rows


def write(
    outcomes: Sequence[Outcome],
    calibration: Sequence[float],
    machine: Mapping[str, str],
    sizes: Mapping[str, object],
) -> Path:
    """The whole run as JSON in benchmarks/results/, every sample in it."""
    now = datetime.now().astimezone()
    content = {
        "date": now.isoformat(timespec="seconds"),
        "machine": machine,
        "sizes": sizes,
        "calibration_ms": list(calibration),
        "measurements": {
            outcome.measurement.name: {
                "title": outcome.measurement.title,
                "figures": _figures(outcome),
                "samples": {
                    subject: [asdict(sample) for sample in samples]
                    for subject, samples in outcome.samples.items()
                },
            }
            for outcome in outcomes
        },
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%dT%H%M%S}.json"
    path.write_text(json.dumps(content, indent=1))
    return path
