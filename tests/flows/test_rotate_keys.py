"""`server.py rotate-keys`, run beside the server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, InvalidToken

from tests.support.checks import rows
from tests.support.databases import kinds, slow
from tests.support.preloaded import run_command
from tests.support.provider import Provider, provider
from tests.support.server import PATIENCE, ROOT, Client, Usher, usher
from tests.support.sign_in import settings_for, sign_in

# tests/providers/test_key_rotation.py has the rows on both kinds.
database_kind = kinds("postgresql", slow("sqlite"))

CIPHERTEXTS = "SELECT access_token, refresh_token, id_token FROM oauth_tokens"


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def old() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture
def new() -> str:
    return Fernet.generate_key().decode()


def rotate(server: Usher, *argv: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, with the settings of a server and others."""
    environment = server.environment | {f"USHER_{k}": v for k, v in settings.items()}
    return run_command(environment, "rotate-keys", *argv, timeout=PATIENCE)


def opened_by(key: str, server: Usher) -> list[bool]:
    """For each ciphertext whether this key opens it."""

    def opens(text: str) -> bool:
        try:
            return bool(Fernet(key).decrypt(text))
        except InvalidToken:
            return False

    return [opens(text) for row in rows(server, CIPHERTEXTS) for text in row]


def test_an_old_key_can_go_after_a_rotation_beside_the_server(
    database_kind: str, op: Provider, old: str, new: str
) -> None:
    with usher(database_kind, **settings_for(op), ENCRYPTION_KEYS=old) as server:
        people = [sign_in(server) for _ in range(3)]
        assert all(opened_by(old, server))
        server.environment["USHER_ENCRYPTION_KEYS"] = f"{new},{old}"
        server.restart()
        assert Client(server).get("/readyz").body["encryption"] == "ok"
        done = rotate(server)
        assert (done.returncode, done.stderr) == (0, "")
        assert "sets of provider tokens under the newest key now: 3\n" in done.stdout
        assert "only the first is needed" in done.stdout
        assert all(opened_by(new, server))
        assert people[0].get("/api/auth/me").status == 200
        server.environment["USHER_ENCRYPTION_KEYS"] = new
        server.restart()
        assert Client(server).get("/readyz").body["encryption"] == "ok"
        people[1].server = server
        location = people[1].post("/api/oauth/logout").body["location"]
        assert op.id_tokens[1] in location


def test_a_wrong_key_changes_nothing(database_kind: str, op: Provider, old: str, new: str) -> None:
    with usher(database_kind, **settings_for(op), ENCRYPTION_KEYS=old) as server:
        sign_in(server)
        before = rows(server, CIPHERTEXTS)
        done = rotate(server, ENCRYPTION_KEYS=new)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.splitlines()[-1] == (
            "usher: cannot rotate-keys: USHER_ENCRYPTION_KEYS do not fit what is stored"
        )
        assert new not in done.stderr
        assert rows(server, CIPHERTEXTS) == before


def test_a_set_that_no_key_decrypts_is_left_and_reported(
    database_kind: str, op: Provider, old: str, new: str
) -> None:
    with usher(database_kind, **settings_for(op), ENCRYPTION_KEYS=old) as server:
        sign_in(server)
        rows(server, "UPDATE oauth_tokens SET id_token = ?", "not a ciphertext")
        done = rotate(server, ENCRYPTION_KEYS=f"{new},{old}")
        assert done.returncode == 1
        assert "that no key fits, left as they are: 1;" in done.stderr
        ready = rotate(server, ENCRYPTION_KEYS=new)
        assert "do not fit what is stored" in ready.stderr


def test_an_installation_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "server.py", "rotate-keys", "--data-dir", str(tmp_path / "mistyped")],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no database at that place" in done.stderr
    assert not (tmp_path / "mistyped" / "usher.db").exists()


def test_the_command_has_to_be_the_first_argument(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "server.py", "--data-dir", str(tmp_path / "data"), "rotate-keys"],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "usher: command line: got rotate-keys after a flag, takes a command as the first word\n"
    )


def test_an_invalid_setting_is_one_line_and_status_2(tmp_path: Path, old: str) -> None:
    done = subprocess.run(
        [sys.executable, "server.py", "rotate-keys", "--encryption-keys", "short"],
        cwd=ROOT,
        env={"PATH": "", "USHER_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("usher: --encryption-keys: got ")
