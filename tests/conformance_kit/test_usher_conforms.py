"""Usher keeps every promise of the contract that the kit checks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from conformance.command import main
from conformance.provider import Provider
from conformance.runner import Report, run
from conformance.table import CASES, Case
from conformance.target import Target
from conformance.verdict import Outcome
from tests.conformance_kit.installation import (
    kits_own_provider,
    node_below,
    one_node,
    two_nodes,
)
from tests.support.server import ROOT, TORNADO, usher

ONE_OF_EACH = frozenset({
    "way-header", "way-cookie", "way-user-join", "foreign-origin", "refused-ticket",
    "refused-two-sessions", "ticket-once", "replay-token", "refresh", "cut-logout",
    "cut-nothing-after", "cut-right-removed", "cut-back-channel", "message",
    "history-re-authorised", "publish-kept", "native-code", "second-factor", "wrong-sign-in",
})  # fmt: skip
"""`make test` runs these; `make test-slow` runs all."""


EXPIRING = frozenset({"expired", "refresh-outlives", "step-up-room"})
"""These need tokens or proofs that expire soon: test_defects.py has such a server."""
AT_ONCE = 8


def checked(target: Target, cases: list[Case], provider: Provider, at_once: int = 1) -> Report:
    return asyncio.run(run(target, cases, provider, at_once=at_once))


def all_kept(report: Report, *, but: frozenset[str] = frozenset()) -> None:
    others = {one.id: one for one in report.results if one.outcome is not Outcome.KEPT}
    assert set(others) <= but, others
    assert report.left == ()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with kits_own_provider() as kits_own:
        yield kits_own


def test_a_node_keeps_one_promise_of_each_kind(provider: Provider) -> None:
    chosen = [case for case in CASES if case.id in ONE_OF_EACH]
    assert len(chosen) == len(ONE_OF_EACH)
    with one_node("sqlite", provider.settings) as target:
        all_kept(checked(target, chosen, provider))
        # Another run: the kit's provider has another key now.
        provider.change_key()
        again = [case for case in CASES if case.id == "provider-sign-in"]
        all_kept(checked(target, again, provider))


def test_accounts_are_made_with_the_key_where_nobody_may_sign_up(provider: Provider) -> None:
    with one_node("sqlite", provider.settings, SIGNUP="closed") as target:
        cases = [case for case in CASES if case.id in {"way-header", "cut-deleted"}]
        all_kept(checked(target, cases, provider))
        without = checked(replace(target, admin_key=None), cases, provider)
    assert [one.outcome for one in without.results] == [Outcome.NOT_RUN] * 2


def test_the_command_runs_over_tls_against_a_server_without_accounts_and_ends_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(
        [sys.executable, "-m", "services.settings.self_signed", str(tmp_path)], cwd=ROOT, check=True
    )
    certificate, key = tmp_path / "tls-certificate.pem", tmp_path / "tls-key.pem"
    report = tmp_path / "junit.xml"
    with usher("sqlite", TLS_CERTIFICATE=certificate, TLS_KEY=key) as server:
        arguments = [server.url, "--first-account", "--at-once", "2", "--junit", str(report)]
        only = ["--only", "way-*", "--only", "browser-sign-in", "--only", "key-revoked"]
        assert main([*arguments, *only]) == 2
        assert "Give the certificates of a private CA as --ca-file" in capsys.readouterr().err
        assert main([*arguments, *only, "--ca-file", str(certificate)]) == 0, capsys.readouterr()
    suite = ET.parse(report).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("8", "0", "0")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["sqlite", TORNADO])
def test_a_node_keeps_every_promise(provider: Provider, form: str) -> None:
    with one_node(form, provider.settings) as target:
        all_kept(checked(target, list(CASES), provider, AT_ONCE), but=EXPIRING)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_below_a_path_of_its_host_keeps_every_promise(provider: Provider) -> None:
    with node_below("/team/usher", "sqlite", provider.settings) as target:
        # What waits on purpose waits the same below a path.
        cases = [case for case in CASES if not case.seconds]
        all_kept(checked(target, cases, provider, AT_ONCE))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_keep_every_promise(provider: Provider) -> None:
    with two_nodes("postgresql", provider.settings) as target:
        all_kept(checked(target, list(CASES), provider, AT_ONCE), but=EXPIRING)
