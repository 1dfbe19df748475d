"""The instrument behind docs/clients.md: what it sees of a client, and what it says about one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.languages.libraries import LIBRARIES, PROBES
from tests.languages.peer import BEHIND, CASES, REFUSED, RESTART, SLEEP, Seen, peer
from tests.languages.table import BEGIN, DOCUMENT, END, HEAD, judged, run, title
from tests.support.server import PATIENCE, wait_until


def test_a_close_behind_the_101_is_seen_by_a_library_that_shows_it(tmp_path: Path) -> None:
    program = tmp_path / "probe.py"
    shutil.copy(PROBES / "websockets_sync.py.in", program)
    with peer() as server:
        said = {
            case: run([sys.executable, str(program), server.url(case), "a-token"], tmp_path)
            for case in (REFUSED, BEHIND, RESTART)
        }
        headers = server.seen[BEHIND].headers
    assert "401" in said[REFUSED]
    assert "token_expired" in said[REFUSED]
    assert "close 4401 unauthenticated" in said[BEHIND]
    assert '"closing"' in said[BEHIND]
    assert "close 1012 service_restart" in said[RESTART]
    assert headers["authorization"] == "Bearer a-token"
    assert "usher.bearer.a-token" in headers["sec-websocket-protocol"]


def test_a_ping_is_answered_by_a_library_with_a_thread_of_its_own() -> None:
    with peer() as server, connect(server.url(SLEEP), proxy=None) as socket:
        socket.send("hello")
        assert socket.recv(PATIENCE) == "sleep"
        socket.send("asleep")
        wait_until(lambda: server.seen[SLEEP].pong_asleep)
        socket.send("awake")
        assert json.loads(socket.recv(PATIENCE))["data"]["code"] == 4410
        with pytest.raises(ConnectionClosed, match="4410"):
            socket.recv(PATIENCE)
        wait_until(lambda: server.seen[SLEEP].answered == 4410)


def test_a_ping_that_is_answered_after_the_sleep_does_not_count() -> None:
    """The pong of this client comes by itself, but behind `awake`."""
    with peer() as server, connect(server.url(SLEEP), proxy=None) as socket:
        socket.send("hello")
        assert socket.recv(PATIENCE) == "sleep"
        with socket.send_context():  # both in one write: the close may come before a second one
            socket.protocol.send_text(b"awake")
            socket.protocol.send_pong(b"")
        assert json.loads(socket.recv(PATIENCE))["data"]["code"] == 4410
        with pytest.raises(ConnectionClosed, match="4410"):
            socket.recv(PATIENCE)
        wait_until(lambda: server.seen[SLEEP].answered == 4410)
        assert not server.seen[SLEEP].pong_asleep


CUT = 'open usher.v1\ntext {"event":"closing","data":{}}\nclose 4410 session_revoked\n'
GOOD = {
    REFUSED: 'error 401 {"code":"token_expired"}',
    BEHIND: 'text {"event":"closing"}\nclose 4401 unauthenticated\n',
    RESTART: "close 1012 service_restart\n",
    SLEEP: CUT,
}
HEADERS = {"authorization": "Bearer x", "sec-websocket-protocol": "usher.v1, usher.bearer.x"}


def cells(pong_asleep: bool = True, headers: dict[str, str] = HEADERS, **said: str) -> list[str]:
    seen = {case: Seen(headers, pong_asleep=pong_asleep) for case in CASES}
    return judged(GOOD | said, seen)


def test_a_library_that_shows_all_of_it() -> None:
    assert cells() == ["`closing`, code and reason", "1012", "yes", "yes", "yes", "status and body"]


@pytest.mark.parametrize(
    ("behind", "cell"),
    [
        ('text {"event":"closing"}\nclose 4401\n', "`closing` and code"),
        ('text {"event":"closing"}\nclose 1006\n', "**`closing` only** (code: 1006)"),
        ("close 4401 unauthenticated\n", "**code only: 4401**"),
        ("open usher.v1\n", "**neither: held back**"),
    ],
)
def test_what_comes_of_a_close_behind_the_101(behind: str, cell: str) -> None:
    assert cells(behind=behind)[0] == cell


def test_a_library_that_lacks_the_rest() -> None:
    found = cells(pong_asleep=False, headers={}, refused="error 1006", restart="close 1002 x")
    assert found[1:] == ["**1002**", "no", "no", "only while it reads", "no"]


def test_a_program_that_did_not_do_its_part_is_no_row() -> None:
    with pytest.raises(AssertionError, match="not cut while it was awake"):
        cells(sleep="open usher.v1\n")


def test_the_document_has_one_row_for_each_library() -> None:
    lines = DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert lines[0] == "| " + " | ".join(HEAD) + " |"
    rows = lines[2:]
    assert [title(one) for one in LIBRARIES] == [
        next((title(one) for one in LIBRARIES if row.startswith(title(one))), row) for row in rows
    ]
    assert all(row.count("|") == len(HEAD) + 1 for row in rows)


def test_every_probe_is_used() -> None:
    used = {name for one in LIBRARIES for name in (one.source, *one.extra)}
    assert {path.name.removesuffix(".in") for path in PROBES.iterdir()} == used
