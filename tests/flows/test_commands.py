"""`server.py COMMAND`: with and without a running server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import kinds, slow
from tests.support.preloaded import run_command
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    Client,
    Usher,
    address,
    ask,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    sign_up,
    usher,
    wait_until,
)
from tests.support.tools import first_of

# What a command does to rows has its tests in the packages of services/, on both kinds.
database_kind = kinds("sqlite", slow("postgresql"))

Installation = tuple[Usher, Client]
EMAIL_COMMANDS = ("make-admin", "reset-password", "disable", "enable", "remove-second-factor")
OTHERS = ("invite", "list-users", "rotate-jwt", "rotate-keys", "create-api-key", "check")
COMMANDS = (*EMAIL_COMMANDS, *OTHERS)


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[Installation]:
    """A server that runs beside the commands, and its first administrator."""
    with usher(database_kind) as server:
        yield server, sign_up(server)


def command(server: Usher, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command with the settings of a server."""
    return run(server.environment, *argv)


def run(environment: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    return run_command(environment, *argv, timeout=PATIENCE * 2)


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done
    (line,) = done.stdout.splitlines()
    return json.loads(line)


@pytest.mark.gen_test
async def test_a_new_administrator_is_one_on_the_running_server(installation: Installation) -> None:
    server, first = installation
    email = address()
    second = sign_up(server, email=email)
    async with connect(server, subprotocols=bearer(second.token)) as socket:
        await event(socket, "joined")
        made = parsed(command(server, "make-admin", f" {email.upper()} ", "--json"))
        assert (made["id"], made["role"]) == (second.user["id"], "admin")
        # Its token says that it is no administrator's: a refresh brings the new one.
        assert await close_code(socket) == 4419
    again = log_in(server, email)
    found = again.get("/api/admin/users")
    assert found.status == 200
    wait_until(lambda: bool(audit(first, "role.changed")))
    assert audit(first, "user.changed")[0]["actor"] == "command-line"
    assert audit(first, "user.changed")[0]["reason"] == "make-admin"


def audit(admin: Client, kind: str) -> list[dict[str, Any]]:
    return list(admin.get(f"/api/admin/audit?kind={kind}").body["items"])


@pytest.mark.gen_test
async def test_a_link_of_reset_password_opens_and_only_then_the_old_sessions_end(
    installation: Installation,
) -> None:
    server, admin = installation
    email, new = address(), "a heron waits in cold water"
    client = sign_up(server, email=email)
    async with connect(server, subprotocols=bearer(client.token)) as socket:
        await event(socket, "joined")
        done = command(server, "reset-password", email)
        assert done.returncode == 0, done
        # The system chooses the port; the server has recorded its URL.
        start = f"a new password for {email}: {server.pages}/set-password#token="
        assert done.stdout.startswith(start)
        token = done.stdout.splitlines()[0].rpartition("=")[2]
        assert (await ask(socket, "heartbeat"))["ok"]
        body = {"token": token, "new_password": new}
        assert Client(server).post("/api/auth/password/reset", body).status == 204
        assert await close_code(socket) == 4410
    assert log_in(server, email, password=new).get("/api/auth/me").status == 200
    body = {"email": email, "password": PASSWORD}
    assert Client(server).post("/api/auth/login", body).status == 401
    assert client.get("/api/auth/me").status == 401
    (row,) = audit(admin, "link.created")
    assert (row["actor"], row["subject"]) == ("command-line", client.user["id"])
    assert token not in server.log
    assert email not in server.log


def test_a_link_leads_to_the_public_url_and_is_json_where_that_is_asked_for(
    installation: Installation,
) -> None:
    server, admin = installation
    email = address()
    user = sign_up(server, email=email)
    asked = ("reset-password", email, "--json", "--public-url", "https://usher.example")
    made = parsed(command(server, *asked))
    assert made["url"].startswith("https://usher.example/set-password#token=")
    assert made["user"]["id"] == user.user["id"]
    assert 1700 < made["expires_at"] - time.time() <= 1800
    disabled = admin.call("PATCH", f"/api/admin/users/{user.user['id']}", {"disabled": True})
    assert disabled.status == 200
    done = command(server, "reset-password", email)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "usher: cannot reset-password: the account is disabled; enable it first"
    ]


def test_a_key_is_made_that_has_no_maker(installation: Installation) -> None:
    server, admin = installation
    scopes = ("--scope", "publish", "--scope", "read")
    made = parsed(command(server, "create-api-key", "ci", *scopes, "--json"))
    assert (made["name"], made["scopes"]) == ("ci", ["publish", "read"])
    backend = Client(server, token=made["key"])
    published = {"room": f"user:{admin.user['id']}", "event": "x"}
    assert backend.post("/api/publish", published).status == 204
    assert backend.get("/api/admin/users").status == 200
    (listed,) = admin.get("/api/admin/api-keys").body["items"]
    assert (listed["id"], listed["created_by"]) == (made["id"], None)
    assert made["key"] not in server.log
    rooms = parsed(command(server, "create-api-key", "rooms", "--scope", "channels", "--json"))
    other = Client(server, token=rooms["key"])
    channel = other.post("/api/channels", {"name": "tea"})
    assert (channel.status, channel.body["owner_id"]) == (201, None)
    path = f"/api/channels/{channel.body['id']}"
    assert other.call("PUT", f"{path}/members/{admin.user['id']}", {}).status == 200
    assert other.call("PATCH", path, {"name": "coffee"}).body["name"] == "coffee"
    assert other.call("DELETE", path).status == 204
    for wrong in ((), ("--scope",), ("--scope", "root")):
        done = command(server, "create-api-key", "ci", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert "takes one of publish, disconnect, read" in done.stderr
    assert command(server, "create-api-key", " ", "--scope", "read").returncode == 1


def test_users_are_listed_beside_a_server_and_without_one(database_kind: str) -> None:
    with usher(database_kind) as server:
        emails = sorted(address() for _ in range(3))
        clients = [sign_up(server, email=email) for email in emails]
        beside = parsed(command(server, "list-users", "--json"))["items"]
        assert sorted(user["email"] for user in beside) == emails
        assert {user["role"] for user in beside} == {"admin", "user"}
        assert all("password" not in user for user in beside)
        assert server.end() == 0
        done = command(server, "list-users")
        assert done.returncode == 0
        for client, email in zip(clients, emails, strict=True):
            (line,) = [line for line in done.stdout.splitlines() if email in line]
            assert line.startswith(f"{client.user['id']}  {email}  ")


@pytest.mark.parametrize("name", first_of(EMAIL_COMMANDS, 1))
def test_an_unknown_address_is_reported_in_one_line(installation: Installation, name: str) -> None:
    server, _ = installation
    done = command(server, name, "nobody@example.org", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"usher: cannot {name}: there is no account with that address"
    ]


@pytest.mark.parametrize("name", first_of([name for name in COMMANDS if name != "check"], 1))
def test_an_installation_that_is_not_there_is_not_made(tmp_path: Path, name: str) -> None:
    argument = ["ada@example.org"] if name in EMAIL_COMMANDS else []
    argument = ["ci", "--scope", "read"] if name == "create-api-key" else argument
    done = run({"PATH": ""}, name, *argument, "--data-dir", str(tmp_path / "mistyped"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no database at that place" in done.stderr
    assert not (tmp_path / "mistyped" / "usher.db").exists()


@pytest.mark.parametrize("name", first_of(COMMANDS, 1))
def test_help_says_what_a_command_takes_and_does_nothing(tmp_path: Path, name: str) -> None:
    done = run({"PATH": "", "USHER_DATA_DIR": str(tmp_path / "data")}, name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: server.py {name}")
    assert "--json" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_servers_help_names_every_command() -> None:
    shown = " ".join(run({"PATH": ""}, "--help").stdout.split())
    for name in COMMANDS:
        assert name in shown


@pytest.mark.parametrize(
    ("argv", "line"),
    first_of(
        [
            (["make-admin"], "usher: make-admin: got nothing, takes EMAIL as the next word"),
            (["reset-password", "--json"], "usher: reset-password: got nothing, takes EMAIL"),
            (["list-users", "ada@example.org"], "usher: command line: got a value without a flag"),
            (["make-admin", "a@b", "--prot", "1"], "usher: --prot: got an unknown flag"),
            (["--port", "1", "make-admin"], "usher: command line: got make-admin after a flag"),
        ],
        2,
    ),
)
def test_an_unknown_command_is_one_line_and_status_2(argv: list[str], line: str) -> None:
    done = run({"PATH": ""}, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith(line)


def test_without_accounts_the_start_screen_says_who_becomes_administrator(
    database_kind: str,
) -> None:
    with usher(database_kind) as server:
        (line,) = [line for line in server.output if "Accounts" in line]
        assert "the first to sign up becomes the administrator" in line
        sign_up(server)
        wait_until(lambda: "is the administrator" in server.log)
        server.output.clear()
        server.restart()
        assert not any("Accounts" in line for line in server.output)
