"""`make bench-peers`: it publishes what was measured, and every server does the same job."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from benchmarks import machine
from benchmarks.peers.load import Guest
from benchmarks.peers.picture import picture
from benchmarks.peers.place import Place
from benchmarks.peers.publish import BEGIN, DOCUMENT, END, PICTURE, RESULTS, block
from benchmarks.peers.results import load
from benchmarks.peers.sample import QUICK
from benchmarks.peers.subjects import SUBJECTS, Subject
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from tests.support.server import PATIENCE, ROOT
from tests.support.tools import missing, need

OTHERS = [subject for subject in SUBJECTS if subject.command]
INSTALL_SECONDS = 300


def test_the_document_and_the_picture_are_made_of_the_published_results() -> None:
    results = load([RESULTS])
    assert BEGIN + block(results) + END in DOCUMENT.read_text("utf-8")
    assert PICTURE.read_text("utf-8") == picture(results)
    assert {subject.name for subject in results.measured()} == {one.name for one in SUBJECTS}


@pytest.fixture(scope="module")
def _installed() -> None:
    """The others' packages, as `make bench-peers` installs them."""
    need("the servers of make bench-peers", "make")
    need("the Node servers of make bench-peers", "npm")
    made = subprocess.run(
        ["make", "peers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if made.returncode:
        missing(f"make peers cannot install the servers: {made.stderr[-500:]}")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_installed")
def test_every_server_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.peers", "--quick", "--into", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("USHER_")}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    (written,) = tmp_path.glob("*.json")
    assert written.with_suffix(".svg").read_text("utf-8").startswith("<svg")
    for subject in SUBJECTS:
        assert f"| {subject.title} | " in run.stdout


@pytest.fixture(scope="module")
def place(_installed: None) -> Iterator[Place]:
    with closing(Place(machine.pick_cores(), QUICK.people)) as made:
        yield made


class Attempt(Guest):
    """Tries to join; the end of the connection is an answer too."""

    ended = False
    refused = b""

    def _take_upgrade(self, data: bytes) -> bytes:
        head, _, _ = data.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101 "):
            return super()._take_upgrade(data)
        self.refused = head
        return b""

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x8 or payload.startswith(b"44"):  # 44: refused by a Socket.IO server
            self.refused = payload
        else:
            super()._take_frame(opcode, payload)

    def on_closed(self) -> None:
        self.ended = True


def attempt(place: Place, subject: Subject, server: Server, token: str) -> bool:
    """Whether a token lets a client in."""
    reactor = Reactor()
    opening = subject.dialect.opening(server.address, token, "")
    client = Attempt(reactor, server.address, opening)
    reactor.run_until(
        lambda: client.joined or client.ended or bool(client.refused), PATIENCE, "an answer"
    )
    client.abandon()
    reactor.close()
    return client.joined


@pytest.mark.slow
@pytest.mark.parametrize("subject", OTHERS, ids=lambda subject: subject.name)
def test_every_server_does_all_checks(place: Place, subject: Subject) -> None:
    made = place.installation
    login, people = made.logins[0], made.choose(QUICK.people)

    def token(number: int, **changed: str | float) -> str:
        person = people[number]
        claims = {"sub": person.user_id, "sid": person.login_session_id, **changed}
        return made.mint.another(login, **claims)

    good, revoked = token(0), token(1, jti="given-back")
    head, body, signature = token(2).split(".")
    forged = f"{head}.{body}.{signature[::-1]}"
    with closing(sqlite3.connect(place.users)) as users, users:
        users.execute("UPDATE users SET disabled = 1 WHERE id = ?", (people[3].user_id,))
        users.execute("UPDATE users SET role = 'ghost' WHERE id = ?", (people[4].user_id,))
    with closing(redis.Redis(unix_socket_path=str(place.redis))) as store:
        store.flushall()
        store.set("revoked:given-back", "1")
        with place.server(subject) as server:
            store.config_resetstat()
            assert attempt(place, subject, server, good)
            used = store.info("commandstats")
            assert used["cmdstat_get"]["calls"] == used["cmdstat_set"]["calls"] == 1
            refused = {
                "revoked": revoked,
                "forged": forged,
                "expired": token(2, exp=time.time() - 60),
                "unknown": token(2, sub="nobody"),
                "disabled": token(3),
                "without a role": token(4),
            }
            for name, bad in refused.items():
                assert not attempt(place, subject, server, bad), name
