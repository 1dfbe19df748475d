"""`server.py invite`, `disable`, `enable`, `remove-second-factor` and `check`: with and without
running nodes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest

from tests.support.checks import plain_refusal
from tests.support.databases import kinds, slow
from tests.support.mail_server import Mailbox, text_of
from tests.support.nodes import Nodes, again, nodes
from tests.support.preloaded import run_command
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    Client,
    Usher,
    address,
    bearer,
    close_code,
    connect,
    event,
    free_port,
    log_in,
    sign_up,
    usher,
    wait_until,
)

database_kind = kinds("sqlite", slow("postgresql"))


@pytest.fixture(scope="module")
def both(database_kind: str) -> Iterator[Nodes]:
    """Two nodes that share a Redis, and their administrator."""
    with nodes(database_kind) as running:
        sign_up(running[0])
        yield running


def command(server: Usher, *argv: str) -> subprocess.CompletedProcess[str]:
    return run_command(server.environment, *argv, timeout=PATIENCE * 2)


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def login(server: Usher, email: str) -> int:
    body = {"email": email, "password": PASSWORD, "client": "native"}
    return Client(server).post("/api/auth/login", body).status


@pytest.mark.gen_test(timeout=60)
async def test_disabling_closes_sockets_on_every_node_and_enabling_allows_sign_ins(
    both: Nodes,
) -> None:
    email = address()
    ada = sign_up(both[0], email=email)
    other = again(both[1], email)
    async with (
        connect(both[0], subprotocols=bearer(ada.token)) as here,
        connect(both[1], subprotocols=bearer(other.token)) as there,
    ):
        await event(here, "joined")
        await event(there, "joined")
        done = await asyncio.to_thread(command, both[0], "disable", email.upper(), "--json")
        assert (parsed(done)["email"], parsed(done)["disabled"]) == (email, True)
        assert await close_code(here) == 4410
        assert await close_code(there) == 4410
    assert login(both[1], email) == 401
    assert parsed(command(both[1], "enable", email, "--json"))["disabled"] is False
    assert login(both[0], email) == 200


@pytest.mark.gen_test(timeout=60)
async def test_beside_the_embedded_parts_too_and_with_the_server_stopped(
    database_kind: str,
) -> None:
    email = address()
    with usher(database_kind) as server:
        sign_up(server)
        ada = sign_up(server, email=email)
        async with connect(server, subprotocols=bearer(ada.token)) as socket:
            await event(socket, "joined")
            done = await asyncio.to_thread(command, server, "disable", email)
            assert done.stdout.startswith("disabled: ")
            assert await close_code(socket) == 4410
        assert server.end() == 0
        assert command(server, "enable", email).stdout.startswith("enabled: ")
        assert parsed(command(server, "check", "--json"))["ok"] is True
        server.restart()
        assert login(server, email) == 200


def test_the_last_administrator_is_not_disabled(database_kind: str) -> None:
    with usher(database_kind) as server:
        admin = sign_up(server)
        done = command(server, "disable", admin.user["email"])
        assert (done.returncode, done.stdout) == (1, "")
        assert "no other administrator is left" in done.stderr
        assert admin.get("/api/auth/me").status == 200


def test_an_invitation_of_the_command_line_opens_an_account(database_kind: str) -> None:
    with usher(database_kind, SIGNUP="invite") as server:
        sign_up(server)
        email = address()
        made = parsed(command(server, "invite", email, "--role", "admin", "--json"))
        assert (made["email"], made["role"], made["created_by"]) == (email, "admin", None)
        assert made["url"] in text_of(Mailbox(server.data_dir, email).next("invitation"))
        page, _, token = made["url"].partition("#invitation=")
        assert page == f"{server.pages}/sign-in"
        body = {"email": email, "password": PASSWORD, "name": "Ada", "invitation": token}
        done = Client(server).post("/api/auth/signup", body)
        assert (done.status, done.body["user"]["role"]) == (201, "admin")
        plain_refusal(Client(server).post("/api/auth/signup", body), 403, "invitation_refused")
        anybodys = command(server, "invite", "--expires-in", "3600")
        assert "#invitation=usher_inv_" in anybodys.stdout
        for wrong in (["--role", "root"], ["--expires-in", "1"], ["--expires-in", "x"], ["--role"]):
            done_wrong = command(server, "invite", *wrong)
            assert (done_wrong.returncode, done_wrong.stdout) == (2, "")
            (line,) = done_wrong.stderr.splitlines()
            assert line.startswith(f"usher: {wrong[0]}: got ")
        assert token not in server.log


def test_a_lost_second_factor_is_removed(both: Nodes) -> None:
    email = address()
    ada = sign_up(both[0], email=email)
    secret = ada.post("/api/auth/totp").body["secret"]
    code = pyotp.TOTP(secret).now()
    assert ada.post("/api/auth/totp/confirm", {"code": code}).status == 200
    assert login(both[0], email) == 401
    removed = parsed(command(both[0], "remove-second-factor", email, "--json"))
    assert (removed["email"], removed["removed"]) == (email, True)
    assert log_in(both[1], email).user["id"] == ada.user["id"]
    assert "there was none" in command(both[0], "remove-second-factor", email).stdout
    boxes = [Mailbox(node.data_dir, email) for node in both]  # either node may have sent it
    wait_until(lambda: sum(box.count("second_factor_off") for box in boxes) == 1)


def checked(server: Usher, **settings: str) -> tuple[int, dict[str, Any], str]:
    environment = {**server.environment, **{f"USHER_{k}": v for k, v in settings.items()}}
    done = run_command(environment, "check", "--json", timeout=PATIENCE * 2)
    found = json.loads(done.stdout)
    items = {item["name"]: item for item in found["items"]}
    assert found["ok"] == (done.returncode == 0)
    return done.returncode, items, done.stdout + done.stderr


def test_check_says_that_all_is_well_or_what_is_not(database_kind: str) -> None:
    with usher(database_kind) as server:
        status, items, _ = checked(server)
        assert (status, items["accounts"]["said"]) == (
            0,
            "none yet; the first becomes administrator",
        )
        assert items["database"]["state"] == items["redis"]["state"] == "ok"
        assert items["mail"]["state"] == "warning", "written to files"
        status, items, shown = checked(
            server,
            REDIS_URL=f"redis://:hush-redis@127.0.0.1:{free_port()}/0",
            SMTP_URL=f"smtp://me:hush-smtp@127.0.0.1:{free_port()}?starttls=off",
            MAIL_FROM="usher@example.org",
            OAUTH_PROVIDERS="away",
            OAUTH_AWAY_ISSUER=f"http://127.0.0.1:{free_port()}",
            OAUTH_AWAY_CLIENT_ID="x",
            OAUTH_AWAY_CLIENT_SECRET="hush-provider",
            ENCRYPTION_KEYS="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        )
        assert status == 1
        failed = {name for name, item in items.items() if item["state"] == "failed"}
        assert failed == {"redis", "mail", "provider away", "encryption keys"}
        assert all(items[name]["help"] for name in failed)
        assert "hush" not in shown
        text = command(server, "check").stdout
        assert "ok      database: " in text


def test_check_makes_nothing_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    done = run_command({"PATH": ""}, "check", "--data-dir", str(folder), timeout=PATIENCE * 2)
    assert done.returncode == 0, done
    assert "there is none yet" in done.stdout
    assert not (folder / "usher.db").exists()


def test_check_says_what_is_wrong_with_a_setting(tmp_path: Path) -> None:
    environment = {"PATH": "", "USHER_SIGNUP": "maybe", "USHER_DATA_DIR": str(tmp_path)}
    done = run_command(environment, "check", timeout=PATIENCE * 2)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "usher: USHER_SIGNUP: got 'maybe', takes open or invite or closed"
    )
