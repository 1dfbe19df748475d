"""``python -m benchmarks.scale``: compute and print the tables of docs/scale.md.

The same inputs give the same text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.scale.model import INPUTS, Design, Inputs, Model, most_sockets
from benchmarks.scale.plan import BUILT_ALREADY, designs
from benchmarks.scale.storm import storm
from benchmarks.servers import ROOT

DOCUMENT = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- made by: python -m benchmarks.scale --write -->\n", "<!-- end -->\n"


def figure(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def rounded(value: float) -> str:
    """A number of sockets, two digits."""
    size = 10 ** (len(f"{value:.0f}") - 2)
    return f"{round(value / size) * size:,.0f}"


def table(first: str, columns: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {first} | " + " | ".join(columns) + " |"
    yield "|-" * (len(columns) + 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def report(inputs: Inputs, sockets: float) -> Iterator[str]:
    """All of the text."""
    today, whole = Model(inputs, Design(), sockets), Model(inputs, designs()[-1][1], sockets)
    yield f"### {sockets:,.0f} sockets on {today.nodes:,.0f} nodes"
    yield ""
    yield (
        f"Per second: {today.joins:,.0f} joins, {today.refreshes:,.0f} refreshes, "
        f"{today.messages:,.0f} messages to {today.rooms:,.0f} rooms, {today.cuts:,.0f} sessions "
        f"cut. A room of {inputs.assumed['sockets of a room']:.0f} has sockets on "
        f"{today.nodes_of_room:.0f} nodes."
    )
    yield ""
    yield from parts("Redis, cores", today.redis(), whole.redis())
    yield from parts("a node, cores", today.node(), whole.node())
    yield from parts("a node, GiB", today.memory(), whole.memory())
    yield from parts("PostgreSQL, cores", today.database(), whole.database())
    yield from breaks(inputs, sockets)
    yield from cuts(inputs, today)
    yield from large_room(inputs, today, whole)
    yield from storms(inputs, int(today.nodes))
    yield from built()


def parts(first: str, today: Mapping[str, float], whole: Mapping[str, float]) -> Iterator[str]:
    """What each kind of work needs, today and with all steps."""
    rows = [[name, figure(value), figure(whole[name])] for name, value in today.items()]
    rows.append(["**sum**", figure(sum(today.values())), figure(sum(whole.values()))])
    yield from table(first, ("as it is, one Redis", "with all steps"), iter(rows))


def breaks(inputs: Inputs, sockets: float) -> Iterator[str]:
    """Which part is full first, and after each step the next."""
    yield "### Which part breaks first"
    yield ""
    rows = []
    for step, design in designs():
        shares = Model(inputs, design, sockets).shares()
        fullest = max(shares, key=lambda name: shares[name])
        part = min(shares, key=lambda name: most_sockets(inputs, design, name))
        state = "" if step is None else ("built" if step.where else "**not built**")
        rows.append(
            [
                "one Redis, one PostgreSQL" if step is None else step.title,
                state,
                part,
                rounded(most_sockets(inputs, design, part)),
                f"{figure(shares[fullest])} times ({fullest})",
            ]
        )
    columns = (
        "",
        "breaks first",
        "at so many sockets",
        f"fullest part at {sockets:,.0f}, of its limit",
    )
    yield from table("step, with all steps above it", columns, iter(rows))


def cuts(inputs: Inputs, today: Model) -> Iterator[str]:
    """Revocations, from one to very many."""
    cost, given = inputs.costs, inputs.assumed
    each = cost["message kept, Redis"] + today.nodes * cost["message to a subscribed node, Redis"]
    yield "### Cuts"
    yield ""
    yield (
        f"Redis needs {each / 1000:.2g} ms to tell {today.nodes:,.0f} nodes of one revocation, so "
        f"one master can tell them of {given['full'] * 1e6 / each:,.0f} a second. There are "
        f"{today.cuts:,.0f}. A node needs {cost['message received, node']:.2g} µs for each, and "
        f"keeps {today.cuts * given['seconds between refreshes']:,.0f} of them until the tokens "
        f"have expired. To end 10,000 sessions of different users in one moment takes "
        f"{10_000 * each / 1e6:.2g} s."
    )
    yield ""


def large_room(inputs: Inputs, today: Model, whole: Model) -> Iterator[str]:
    """The one large room: a message, and presence."""
    cost, given = inputs.costs, inputs.assumed
    size = today.sockets * given["share in the large room"]
    members = size / today.nodes
    told = cost["message kept, Redis"] + today.nodes * cost["message to a subscribed node, Redis"]
    deliver = members * cost["delivery one by one, node"]
    yield f"### A room of {size:,.0f}"
    yield ""
    yield (
        f"Each node has {members:,.0f} members. A message takes Redis {told / 1000:.2g} ms and "
        f"each node {deliver / 1000:.2g} ms. Presence by name takes "
        f"{today.memory_of_large_room():.2g} GiB of each node, "
        f"{today.redis()['the large room']:.2g} cores of one Redis master, and "
        f"{figure(today.large_room_bytes())} MiB/s of each node's network; by count "
        f"{figure(whole.large_room_bytes())} MiB/s and almost nothing of the others."
    )
    yield ""


def storms(inputs: Inputs, nodes: int) -> Iterator[str]:
    """Sockets that come back."""
    yield "### Sockets that come back"
    yield ""
    several = max(1, nodes // 10)
    cases = (
        ("one node is shut down", 1, True, False),
        ("one node is killed", 1, False, False),
        (f"{several} nodes are killed", several, False, False),
        (f"{several} nodes are killed, and Redis is empty", several, False, True),
    )
    rows = []
    for title, stopped, drained, empty in cases:
        found = storm(inputs, nodes, stopped, drained=drained, redis_empty=empty)
        rows.append(
            [
                title,
                f"{found.returned:,}",
                *(f"{value:.2g} s" for value in (found.p50, found.p99, found.last)),
                figure(found.redis),
                f"{found.database:,.0f}",
            ]
        )
    columns = ("sockets", "p50", "p99", "last", "Redis, cores", "look-ups in the database per s")
    yield from table("", columns, iter(rows))


def built() -> Iterator[str]:
    """What the figures include already."""
    yield "### Built already"
    yield ""
    yield from table("", ("where",), ([title, where] for title, where in BUILT_ALREADY))


def text(inputs: Inputs, sockets: float | None = None) -> str:
    """What the command prints, and what docs/scale.md has."""
    lines = report(inputs, sockets or inputs.assumed["sockets"])
    return "\n".join(lines).rstrip() + "\n"


def write(made: str) -> None:
    """Put the text into docs/scale.md."""
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + BEGIN + made + END + after, "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Print; exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--inputs", type=Path, default=INPUTS)
    parser.add_argument("--sockets", type=float, help="instead of those of the inputs")
    parser.add_argument("--write", action="store_true", help="into docs/scale.md, too")
    options = parser.parse_args(argv)
    made = text(Inputs.read(options.inputs), options.sockets)
    print(made, end="")
    if options.write:
        write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
