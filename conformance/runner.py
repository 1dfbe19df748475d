"""Runs cases, one after the other or some at a time. Each is bounded, and none stops the others."""

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
        seconds: how long the run took.
        left: addresses of accounts of the kit that could not be deleted.
    """

    url: str
    results: tuple[Result, ...]
    started_at: float
    seconds: float
    left: tuple[str, ...]

    def count(self, outcome: Outcome) -> int:
        return sum(1 for result in self.results if result.outcome is outcome)


async def run(
    target: Target,
    cases: Iterable[Case],
    provider: Provider | None = None,
    tell: Callable[[Result], None] = lambda _: None,
    at_once: int = 1,
) -> Report:
    """Run cases.

    Args:
        provider: the kit's own, running.
        tell: called with each result as it is known.
        at_once: so many cases run side by side, with accounts of their own; those that are `alone`
            come last.
    """
    started_at, all_cases = time.time(), list(cases)
    results: dict[str, Result] = {}
    crews = [People(target) for _ in range(at_once)]
    left: list[str] = []

    async def work(people: People, waiting: list[Case]) -> None:
        while waiting:
            case = waiting.pop(0)
            result = results[case.id] = await _checked(target, people, case, provider)
            if result.outcome is Outcome.BROKEN:
                people.forget()
            tell(result)

    side_by_side = [case for case in all_cases if not case.alone] if at_once > 1 else all_cases[:]
    alone = [case for case in all_cases if case.alone] if at_once > 1 else []
    try:
        await asyncio.gather(*(work(people, side_by_side) for people in crews))
        await work(crews[0], alone)
    finally:
        for people in crews:
            left += await people.clear()
    ordered = tuple(results[case.id] for case in all_cases)
    return Report(target.near, ordered, started_at, time.time() - started_at, tuple(left))


async def _checked(target: Target, people: People, case: Case, provider: Provider | None) -> Result:
    begun = time.monotonic()
    outcome, detail = Outcome.KEPT, ""
    bound = STEPS * (max(target.patience, target.timeout) + target.allowance) + case.seconds
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
    with suppress(Exception):  # a connection that does not close is no case of its own
        await asyncio.wait_for(stack.aclose(), CLOSE_SECONDS)
