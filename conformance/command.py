"""The command `python -m conformance URL`: see docs/conformance.md."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase

from conformance import options
from conformance.preflight import Unusable, prepared
from conformance.provider import Provider, running
from conformance.report import ending, html, junit, line
from conformance.runner import Report, run
from conformance.table import CASES, Case
from conformance.target import Target
from conformance.verdict import Outcome, Result

KEPT, BROKEN, UNUSABLE = 0, 1, 2
STOPPED = 130
"""As shells report SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every promise that was checked is kept, 1 if one is not, 2 if nothing could be
    checked: wrong usage, or no server there."""
    parser = options.parser()
    given = parser.parse_args(arguments)
    cases = _chosen(given.only, given.leave_out)
    if not cases:
        parser.error("no case has such an id; --list shows them")
    if given.list:
        for case in cases:
            print(f"{case.id:26} {case.promise}  [{case.section}]")
        return KEPT
    try:
        report = _run(parser, options.target(parser, given), cases, given)
    except Unusable as found:
        print(f"{parser.prog}: {found}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return STOPPED
    return _reported(report, given)


def _reported(report: Report, given: argparse.Namespace) -> int:
    print(ending(report))
    for address in report.left:
        print(f"not deleted: {address}", file=sys.stderr)
    if given.junit is not None:
        given.junit.write_text(junit(report), "utf-8")
    if given.html is not None:
        given.html.write_text(html(report), "utf-8")
    failed = report.count(Outcome.BROKEN) or (given.strict and report.count(Outcome.NOT_RUN))
    return BROKEN if failed else KEPT


def _run(
    parser: argparse.ArgumentParser, target: Target, cases: list[Case], given: argparse.Namespace
) -> Report:
    async def checked(provider: Provider | None) -> Report:
        ready, note = await prepared(target, first_account=given.first_account)
        if note:
            print(note)
        print(f"{len(cases)} cases against {', '.join(target.nodes)}", flush=True)
        return await run(ready, cases, provider, tell, given.at_once)

    def tell(result: Result) -> None:
        print(line(result), flush=True)

    with ExitStack() as stack:
        provider = None
        if target.provider is not None:
            try:
                provider = stack.enter_context(running(target.provider))
            except OSError as error:
                parser.error(f"--provider-listen: {error}")
        return asyncio.run(checked(provider))


def _chosen(only: list[str], leave_out: list[str]) -> list[Case]:
    def named(case: Case, patterns: list[str]) -> bool:
        return any(fnmatchcase(case.id, pattern) for pattern in patterns)

    wanted = [case for case in CASES if not only or named(case, only)]
    return [case for case in wanted if not named(case, leave_out)]
