"""The conformance kit itself: its table, its runner and its reports."""

from __future__ import annotations

import ast
import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from conformance import runner
from conformance.report import ending, html, junit, line, summary
from conformance.runner import Report, run
from conformance.table import CASES, Case
from conformance.target import Target, origin_of
from conformance.trial import Trial
from conformance.verdict import Broken, NotRun, Outcome, Result
from tests.support.server import ROOT

NOWHERE = Target(("http://127.0.0.1:9",), "http://127.0.0.1:9")


def case(name: str, check: Callable[[Trial], Awaitable[None]]) -> Case:
    return Case(name, f"The promise of {name}.", "A section", check)


async def kept(_: Trial) -> None:
    pass


async def broken(_: Trial) -> None:
    raise Broken("expected <1>, got \x00 & 2")


async def not_run(_: Trial) -> None:
    raise NotRun("needs --provider")


async def failing(_: Trial) -> None:
    raise KeyError("items")


async def hanging(_: Trial) -> None:
    await asyncio.Event().wait()


def ran(*checks: Callable[[Trial], Awaitable[None]]) -> Report:
    hurried = replace(NOWHERE, patience=0.05, timeout=0.05, allowance=0.0)
    return asyncio.run(run(hurried, [case(one.__name__, one) for one in checks]))


def test_the_run_goes_on_after_whatever_a_check_does() -> None:
    report = ran(failing, hanging, broken, not_run, kept)
    assert [result.outcome for result in report.results] == [
        Outcome.BROKEN,
        Outcome.BROKEN,
        Outcome.BROKEN,
        Outcome.NOT_RUN,
        Outcome.KEPT,
    ]
    failed, hung, *_ = report.results
    assert failed.detail == "KeyError: 'items'"
    assert hung.detail.startswith("not done within")


def test_what_a_check_opened_is_closed_and_closing_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "CLOSE_SECONDS", 0.05)
    closed: list[str] = []

    async def never() -> None:
        await asyncio.Event().wait()

    async def opens(trial: Trial) -> None:
        trial.stack.callback(closed.append, "first")
        trial.stack.push_async_callback(never)

    report = ran(opens, kept)
    assert [result.outcome for result in report.results] == [Outcome.KEPT] * 2
    assert closed == ["first"]


def test_a_server_that_is_not_there_breaks_every_promise() -> None:
    chosen = [one for one in CASES if one.id in {"way-header", "refused-header"}]
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        there = f"http://127.0.0.1:{taken.getsockname()[1]}"
        report = asyncio.run(run(replace(NOWHERE, nodes=(there,)), chosen))
    assert report.count(Outcome.BROKEN) == 2


def test_the_junit_report_is_xml_whatever_the_server_sent() -> None:
    suite = ET.fromstring(junit(ran(kept, broken, not_run))).find("testsuite")
    assert suite is not None
    counts = {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")}
    assert counts == {"tests": "3", "failures": "1", "skipped": "1", "errors": "0"}
    failure = suite.find("testcase[@name='broken']/failure")
    assert failure is not None
    assert "expected <1>, got \ufffd & 2" in str(failure.get("message"))


def test_the_page_escapes_what_the_server_sent() -> None:
    page = html(ran(broken))
    assert "expected &lt;1&gt;" in page
    assert page.index('<h2 class="broken">Broken') < page.index("The promise of broken.")
    assert "<script" not in page


def test_the_text_report_says_what_is_broken_and_why() -> None:
    report = ran(kept, broken)
    good, bad = (line(result) for result in report.results)
    assert good.count("\n") == 0
    assert "The promise of broken." in bad
    assert "expected <1>" in bad
    assert "1 kept, 1 broken, 0 not run" in summary(report)


def test_the_text_report_ends_with_what_is_broken_or_missing() -> None:
    ends = ending(ran(kept, broken, not_run)).splitlines()
    assert ends[1] == "not run: needs --provider: not_run"
    assert ends[2].startswith("broken: broken: expected <1>")
    assert ends[3].startswith("http://127.0.0.1:9: 1 kept, 1 broken, 1 not run, in ")
    assert len(ending(ran(kept)).splitlines()) == 2


def test_every_case_has_its_own_id_a_sentence_and_a_section() -> None:
    assert len({one.id for one in CASES}) == len(CASES)
    assert len({one.check for one in CASES}) == len(CASES)
    for one in CASES:
        assert one.promise[-1] == "."
        assert one.section


def test_the_kit_imports_nothing_of_usher() -> None:
    for path in (ROOT / "conformance").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            tops = {name.partition(".")[0] for name in names}
            assert not tops & {"services", "handlers", "models", "server", "tests"}, path


def test_the_origin_of_a_url_has_no_path() -> None:
    assert origin_of("https://usher.example:8443/usher") == "https://usher.example:8443"


def test_a_result_says_how_long_it_took() -> None:
    result = Result("id", "Promise.", "Section", Outcome.KEPT, "", 1.25)
    assert "1.25 s" in line(result)
