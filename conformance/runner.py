"""Runs cases one after the other. Each is bounded, and a failure does not stop the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from conformance.people import People
from conformance.provider import Provider
from conformance.socket import HandshakeRefused
from conformance.table import Case
from conformance.target import Target
from conformance.trial import Trial
from conformance.verdict import Broken, NotRun, Outcome, Result

STEPS = 6
"""How often a check may wait for `patience` before it is given up as a whole."""
CLOSE_SECONDS = 60.0
"""For closing what a check opened."""


@dataclass(frozen=True)
class Report:
    """What came of a run.

    Attributes:
        url: of the server.
        results: in the order of the table.
        started_at: epoch seconds.
        left: addresses of accounts of the kit that could not be deleted.
    """

    url: str
    results: tuple[Result, ...]
    started_at: float
    left: tuple[str, ...]

    def count(self, outcome: Outcome) -> int:
        return sum(1 for result in self.results if result.outcome is outcome)

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results)


async def run(
    target: Target,
    cases: Iterable[Case],
    provider: Provider | None = None,
    tell: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Run cases.

    Args:
        provider: the kit's own, running.
        tell: called with each result as it is known.
    """
    people, started_at = People(target), time.time()
    results: list[Result] = []
    for case in cases:
        result = await _checked(target, people, case, provider)
        tell(result)
        results.append(result)
    return Report(target.near, tuple(results), started_at, tuple(await people.clear()))


async def _checked(target: Target, people: People, case: Case, provider: Provider | None) -> Result:
    begun = time.monotonic()
    outcome, detail = Outcome.KEPT, ""
    bound = STEPS * (target.patience + target.allowance) + case.seconds
    stack = AsyncExitStack()
    try:
        await asyncio.wait_for(case.check(Trial(target, people, stack, provider)), bound)
    except NotRun as missing:
        outcome, detail = Outcome.NOT_RUN, str(missing)
    except Broken as broken:
        outcome, detail = Outcome.BROKEN, str(broken)
    except HandshakeRefused as refused:
        outcome, detail = Outcome.BROKEN, f"the handshake was refused: {refused}"
    except asyncio.TimeoutError:
        outcome, detail = Outcome.BROKEN, f"not done within {bound:.0f} s"
    except Exception as error:  # noqa: BLE001  # what the server sent was of no form foreseen
        outcome, detail = Outcome.BROKEN, f"{type(error).__name__}: {error}"
    await _closed(stack)
    seconds = time.monotonic() - begun
    return Result(case.id, case.promise, case.section, outcome, detail, seconds)


async def _closed(stack: AsyncExitStack) -> None:
    # A connection that does not close is no case of its own.
    with suppress(Exception):
        await asyncio.wait_for(stack.aclose(), CLOSE_SECONDS)
