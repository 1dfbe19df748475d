"""static/usher-life.js: each transition of the state machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.node import JsClient, Node

Life = dict[str, Any]
CLOSED_BY_CLIENT = {"code": 1000, "reason": "closed_by_client", "retry": "never"}
CODE_OF = {"never": 4400, "login": 4401, "refresh": 4419, "backoff": 4408}


@pytest.fixture(scope="module")
def machine() -> Iterator[JsClient]:
    with closing(Node()) as running:
        yield running.client("http://127.0.0.1:9")


def life(name: str, **fields: Any) -> Life:
    return {"name": name, "attempt": 0, "renew": False, "proven": False, **fields}


def after(machine: JsClient, before: Life, event: str, **fields: Any) -> tuple[Life, str | None]:
    step = machine.result("step", life=before, event={"type": event, **fields})
    return step["life"], step["act"]


PLAIN = [
    ("idle", "connect", "connecting", "open"),
    ("connecting", "credential", "connecting", None),
    ("connecting", "joined", "joined", None),
    ("connecting", "close", "closed", "finish"),
    ("joined", "lasted", "joined", None),
    ("joined", "expiring", "renewing", "renew"),
    ("joined", "online", "joined", "look"),
    ("joined", "offline", "joined", "look"),
    ("joined", "close", "closed", "finish"),
    ("renewing", "lasted", "renewing", None),
    ("renewing", "renewed", "joined", None),
    ("renewing", "online", "renewing", "look"),
    ("renewing", "offline", "renewing", "look"),
    ("renewing", "close", "closed", "finish"),
    ("waiting", "connect", "connecting", "open"),
    ("waiting", "due", "connecting", "open"),
    ("waiting", "online", "waiting", "soon"),
    ("waiting", "close", "closed", "finish"),
    ("closed", "connect", "connecting", "open"),
]
"""State, event, the state after it, and what is done."""
LIVE = ("connecting", "joined", "renewing")
"""States in which there is something to be lost."""
STATES = ("idle", *LIVE, "waiting", "closed")
EVENTS = ("connect", "credential", "joined", "lasted", "expiring", "renewed", "not-renewed",
          "due", "online", "offline", "close", "lost")  # fmt: skip
TESTED = {(state, event) for state, event, _, _ in PLAIN}
TESTED |= {(state, "lost") for state in LIVE} | {("renewing", "not-renewed")}


def test_no_transition_is_without_a_test(machine: JsClient) -> None:
    assert {(state, event) for state, event in machine.result("transitions")} == TESTED


@pytest.mark.parametrize(("state", "event", "then", "act"), PLAIN)
def test_a_transition(machine: JsClient, state: str, event: str, then: str, act: str) -> None:
    found, done = after(machine, life(state), event)
    assert (found["name"], done) == (then, act)


@pytest.mark.parametrize("state", STATES)
def test_what_is_no_news_changes_nothing(machine: JsClient, state: str) -> None:
    before = life(state, attempt=3, renew=True)
    for event in EVENTS:
        if (state, event) not in TESTED:
            assert after(machine, before, event) == (before, None), event


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize("retry", ["never", "login"])
@pytest.mark.parametrize("said", [True, False], ids=["said", "by-code"])
def test_some_ends_are_permanent(machine: JsClient, state: str, retry: str, said: bool) -> None:
    end = {"code": CODE_OF[retry], "reason": "r"} | ({"retry": retry} if said else {})
    found, act = after(machine, life(state, renew=True, proven=True), "lost", end=end)
    assert (found["name"], act, found["renew"]) == ("closed", "finish", False)
    assert found["end"] == {**end, "retry": retry}


@pytest.mark.parametrize("state", LIVE)
def test_a_lost_line_is_waited_for_ever_longer(machine: JsClient, state: str) -> None:
    end = {"code": 1006, "reason": "", "after": 7}
    found, act = after(machine, life(state, attempt=4), "lost", end=end)
    assert (found["name"], act, found["attempt"]) == ("waiting", "wait", 5)
    assert found["end"] == {**end, "retry": "backoff"}
    found, _ = after(machine, life(state, attempt=30), "lost", end=end)
    assert found["attempt"] == 30


@pytest.mark.parametrize("state", LIVE)
def test_an_expired_token_is_renewed_at_once_and_then_with_pauses(
    machine: JsClient, state: str
) -> None:
    end = {"code": 4419, "reason": "token_expired"}
    found, act = after(machine, life(state), "lost", end=end)
    assert (found["name"], act, found["renew"]) == ("connecting", "open", True)
    again, act = after(machine, found, "lost", end=end)
    assert (again["name"], act, again["renew"]) == ("waiting", "wait", True)


def test_the_servers_retry_class_overrides_the_close_code(machine: JsClient) -> None:
    end = {"code": 1012, "reason": "moved", "retry": "never"}
    assert after(machine, life("joined"), "lost", end=end)[0]["name"] == "closed"


def test_a_credential_is_renewed_until_it_is_there_and_not_longer(machine: JsClient) -> None:
    lost = {"code": 1006, "reason": "unreachable"}
    found, _ = after(machine, life("connecting", renew=True, attempt=1), "lost", end=lost)
    assert found["renew"] is True
    found, _ = after(machine, found, "due")
    assert found["renew"] is True
    found, _ = after(machine, found, "credential")
    assert found["renew"] is False


def test_pauses_start_afresh_once_a_connection_has_lasted(machine: JsClient) -> None:
    assert after(machine, life("joined", attempt=5), "joined")[0]["attempt"] == 5
    assert after(machine, life("joined", attempt=5), "lasted")[0]["attempt"] == 0
    assert after(machine, life("renewing", attempt=5), "lasted")[0]["attempt"] == 0


def test_a_page_that_connects_again_begins_afresh(machine: JsClient) -> None:
    for state in ("idle", "closed"):
        found, _ = after(machine, life(state, attempt=5, renew=True), "connect")
        assert (found["attempt"], found["renew"]) == (0, False)
    found, _ = after(machine, life("waiting", attempt=5, renew=True), "connect")
    assert (found["attempt"], found["renew"]) == (5, True)


def test_misuse_ends_a_client_that_has_never_joined(machine: JsClient) -> None:
    end = {"code": 4400, "reason": "misuse"}
    assert after(machine, life("connecting"), "lost", end=end)[0]["name"] == "closed"
    joined, _ = after(machine, life("connecting"), "joined")
    assert joined["proven"] is True
    found, act = after(machine, {**joined, "name": "connecting"}, "lost", end=end)
    assert (found["name"], act, found["end"]["retry"]) == ("waiting", "wait", "backoff")


def test_a_renewal_that_failed_is_tried_again_on_the_live_socket(machine: JsClient) -> None:
    end = {"code": 1006, "reason": "unreachable"}
    found, act = after(machine, life("renewing"), "not-renewed", end=end)
    assert (found["name"], act) == ("joined", "renew-later")


def test_after_a_refused_refresh_the_server_closes_the_socket(
    machine: JsClient,
) -> None:
    end = {"code": 4401, "reason": "unauthenticated"}
    found, act = after(machine, life("renewing"), "not-renewed", end=end)
    assert (found["name"], act) == ("joined", "stay")


def test_a_renewal_by_another_user_ends_the_socket(machine: JsClient) -> None:
    end = {"code": 4401, "reason": "identity_mismatch"}
    found, act = after(machine, life("renewing"), "not-renewed", end=end)
    assert (found["name"], act) == ("closed", "finish")
    assert found["end"] == {**end, "retry": "login"}


@pytest.mark.parametrize("state", ["connecting", "joined", "renewing", "waiting"])
def test_a_page_that_closes_has_closed(machine: JsClient, state: str) -> None:
    found, act = after(machine, life(state, renew=True), "close")
    assert (found["name"], act, found["end"]) == ("closed", "finish", CLOSED_BY_CLIENT)
    assert found["renew"] is False
