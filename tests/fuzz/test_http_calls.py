"""What makes a run of schemathesis fail."""

from __future__ import annotations

import pytest

from tests.fuzz.http_calls import judged

GOOD = {f"GET /api/{number}": {"200": 3, "401": 2} for number in range(20)}


@pytest.mark.parametrize(
    ("more", "failures"),
    [
        ({}, 0),
        ({"GET /x": {"400": 9}, "GET /y": {"404": 9}}, 0),  # some may be missing
        ({f"GET /{n}": {"400": 9} for n in range(4)}, 1),  # but not many
        ({f"GET /oauth/{n}/callback": {"403": 9} for n in range(9)}, 0),
        ({"GET /x": {"401": 9}}, 1),
        ({"POST /api/auth/login": {"401": 9}}, 0),
        ({"GET /x": {"200": 9, "500": 1}}, 1),
        ({"GET /x": {"200": 9, "503": 1}, "GET /y": {"502": 1}}, 2),
    ],
)
def test_an_error_a_refused_connection_and_too_few_successes_fail(
    more: dict[str, dict[str, int]], failures: int
) -> None:
    reported: list[str] = []
    assert judged({**GOOD, **more}, 0, reported.append) == failures
    assert len(reported) >= 2


def test_a_run_that_failed_for_another_reason_fails() -> None:
    assert judged(GOOD, 1, lambda _: None) == 1
