"""The picture of the README: bars, an SVG that follows the reader's light or dark colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.peers.results import Results, figure
from benchmarks.peers.subjects import USHER

WIDTH, PANEL, LABEL, VALUE, GAP = 880, 430, 140, 70, 20
ROW, BAR, HEAD, TOP = 22, 13, 52, 12
STYLE = """
  svg { color-scheme: light dark; }
  text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f; }
  .page { fill: #ffffff; }
  .title { font-weight: 600; font-size: 13px; } .note { fill: #57606a; font-size: 11px; }
  .bar { fill: #b6bec8; } .usher { fill: #0b7a83; } .bold { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } text { fill: #e6edf3; } .note { fill: #9aa4af; }
    .bar { fill: #4b5563; } .usher { fill: #2dd4bf; }
  }
"""


@dataclass(frozen=True)
class Panel:
    """One measurement: its name in the results, and whether longer bars are better."""

    title: str
    note: str
    name: str
    per_second: bool = True


PANELS = (
    Panel("Joins", "per second of CPU; longer is better", "join CPU"),
    Panel("Requests with reply", "per second of CPU; longer is better", "request CPU"),
    Panel(
        "Deliveries to a room of 1,000, pipelined",
        "per second of CPU; longer is better",
        "pipelined CPU",
    ),
    Panel(
        "Memory of an idle socket",
        "KiB, of Node the live heap; shorter is better",
        "idle KiB",
        per_second=False,
    ),
)


def picture(results: Results) -> str:
    """The SVG; a pure function of the results."""
    rows = len(results.measured())
    high = HEAD + rows * ROW + GAP
    height = TOP + 2 * high
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Usher beside other servers that do the same job</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
    ]
    for number, panel in enumerate(PANELS):
        left = 10 + (number % 2) * (PANEL + GAP)
        parts += _panel(results, panel, left, TOP + (number // 2) * high)
    return "\n".join((*parts, "</svg>", ""))


def _panel(results: Results, panel: Panel, left: int, top: int) -> Iterator[str]:
    yield f'<text class="title" x="{left}" y="{top + 14}">{escape(panel.title)}</text>'
    yield f'<text class="note" x="{left}" y="{top + 30}">{escape(panel.note)}</text>'
    values = {}
    for subject in results.measured():
        value = results.middle(subject.name, panel.name)
        values[subject.name] = 1e6 / value if panel.per_second and value else value
    most, room = max(values.values()), PANEL - LABEL - VALUE - GAP
    for row, subject in enumerate(results.measured()):
        value = max(0.0, values[subject.name])
        y = top + HEAD + row * ROW
        own = subject.name == USHER
        bold = ' class="bold"' if own else ""
        long = max(1.0, room * value / most)
        yield f'<text{bold} x="{left}" y="{y}">{escape(subject.title)}</text>'
        yield (
            f'<rect class="{"usher" if own else "bar"}" x="{left + LABEL}" y="{y - BAR + 2}" '
            f'width="{long:.1f}" height="{BAR}" rx="2"/>'
        )
        yield f'<text{bold} x="{left + LABEL + long + 6:.1f}" y="{y}">{_shown(value)}</text>'


def _shown(value: float) -> str:
    """Three digits; nobody reads more in a picture."""
    if value < 1000:
        return figure(value)
    size = 10 ** (len(f"{value:.0f}") - 3)
    return f"{round(value / size) * size:,.0f}"
