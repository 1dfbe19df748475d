"""A public conformance suite of RFC 6455 against the product's connection code."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.conformance.__main__ import GOOD, GROUPS, ROOT, echo_server, run_suite, table

pytestmark = pytest.mark.slow


def test_every_case_of_the_suite_passes_and_ends_clean(tmp_path: Path) -> None:
    with echo_server() as port:
        cases = run_suite(port, tmp_path)
    assert {case.name.partition(".")[0] for case in cases} == set(GROUPS)
    assert [case for case in cases if {case.behavior, case.close} - GOOD] == []
    assert [case for case in cases if not case.is_clean] == []
    shown = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    assert table(cases) in shown, "docs/protocol.md shows what `make conformance` prints"


def test_through_tornado_only_ends_differ(tmp_path: Path) -> None:
    with echo_server("tornado") as port:
        cases = run_suite(port, tmp_path)
    failed = [case.name for case in cases if {case.behavior, case.close} - GOOD]
    assert {name.partition(".")[0] for name in failed} == {"7"}, "close codes that must not travel"
    shown = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    assert table(cases) in shown, "docs/protocol.md shows what `make conformance` prints"


def test_the_report_names_a_server_that_fails_a_case(tmp_path: Path) -> None:
    # It answers a handshake with 501: were that a pass, the test above could not fail.
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            (case,) = run_suite(http.server_port, tmp_path, "1.1.1")
        finally:
            http.shutdown()
            thread.join()
    assert case.behavior not in GOOD


def test_the_table_counts_what_failed() -> None:
    text = table([])
    assert re.search(r"^\| 7\. Close handling \| 0 \| 0 \| 0 \|$", text, re.MULTILINE)
