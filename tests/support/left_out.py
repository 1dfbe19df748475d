"""The last words of a run: what it left out, and why. tests/conftest.py takes the hooks over.

pytest's own `-ra` names each skipped place above; this is one line for all of it. With xdist it
is a worker that leaves tests out, and the main process that tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

SLOW = pytest.StashKey[int]()
"""How many tests are slow on purpose and were not asked for."""


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Called in each worker; all of them collect the same tests."""
    slow = sum(item.get_closest_marker("slow") is not None for item in items)
    if slow:
        stash = items[0].config.stash
        stash[SLOW] = stash.get(SLOW, 0) + slow


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands the number on to the main process."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["slow"] = session.config.stash.get(SLOW, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The main process takes it. A worker that crashed has none."""
    slow = getattr(node, "workeroutput", {}).get("slow", 0)
    stash = node.config.stash
    stash[SLOW] = max(stash.get(SLOW, 0), slow)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    """One line, behind all that pytest says itself."""
    yield
    skipped = Counter(map(_reason, terminalreporter.stats.get("skipped", ())))
    terminalreporter.write_line(left_out(config.stash.get(SLOW, 0), skipped))


def left_out(slow: int, skipped: Counter[str]) -> str:
    """The line.

    Args:
        slow: tests that are slow on purpose and were not run.
        skipped: the reasons why others were not, each with how many.
    """
    parts = [f"{slow} slow on purpose (make test-slow)"] if slow else []
    parts += [f"{count} skipped ({reason})" for reason, count in sorted(skipped.items())]
    return f"Left out: {'; '.join(parts) or 'nothing'}"


def _reason(report: Any) -> str:
    """Of a skipped test's report, which holds path, line and "Skipped: reason"."""
    where = report.longrepr
    text = str(where[2] if isinstance(where, tuple) else where)
    return text.removeprefix("Skipped: ").partition("\n")[0]
