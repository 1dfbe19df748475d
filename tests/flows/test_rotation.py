"""Secrets change while sockets are open: none is closed, and no user is signed out."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tests.support.databases import kinds
from tests.support.preloaded import run_command
from tests.support.server import (
    PATIENCE,
    ROOT,
    Client,
    Usher,
    ask,
    bearer,
    connect,
    event,
    new_token,
    sign_up,
    usher,
    wait_until,
)

pytestmark = pytest.mark.slow

# Secrets are files and not rows; test_rotate_keys.py has the rows.
database_kind = kinds("sqlite")


def command(server: Usher, *argv: str) -> dict[str, Any]:
    done = run_command(server.environment, *argv, "--json", timeout=PATIENCE * 2)
    assert done.returncode == 0, done
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def kid(token: str | None) -> str:
    head = str(token).partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"])


async def rotate_under(server: Usher, sockets: int) -> None:
    client = sign_up(server)
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(sockets):
            socket = await stack.enter_async_context(connect(server, f"?ticket={client.ticket()}"))
            await event(socket, "joined")
            opened.append(socket)
        before, ticket = kid(client.token), client.ticket()
        waiting = asyncio.ensure_future(asyncio.to_thread(command, server, "rotate-jwt"))
        done = await waiting
        assert done == {"secrets": 2, "reloaded": server.process.pid}
        keys = await asyncio.to_thread(command, server, "rotate-keys")
        assert keys["new_key"] is True
        assert keys["reloaded"] == server.process.pid
        server.process.send_signal(signal.SIGHUP)
        # What was given out before still counts: token, ticket, refresh token.
        assert client.get("/api/auth/me").status == 200
        async with connect(server, f"?ticket={ticket}") as late:
            await event(late, "joined")
        async with connect(server, subprotocols=bearer(new_token(client))) as fresh:
            await event(fresh, "joined")
        replies = await asyncio.gather(*(ask(socket, "heartbeat") for socket in opened))
        assert all(reply["ok"] for reply in replies)
        refreshed = await ask(opened[0], "token-refresh", {"token": client.ticket()})
        assert refreshed["ok"] is True
    assert Client(server).get("/readyz").status == 200
    for name in ("jwt_secrets", "encryption_keys"):
        lines = (server.data_dir / f"{name}.key").read_text().split()
        assert len(lines) == 2
    wait_until(lambda: server.log.count("settings are read anew") == 3)
    # The new secret signs once other nodes have had time to read it.
    end = time.monotonic() + 30
    while kid(new_token(client)) == before:
        assert time.monotonic() < end
        await asyncio.sleep(1)
    assert "ERROR" not in server.log


@pytest.mark.gen_test(timeout=100)
async def test_open_sockets_live_through_every_rotation(database_kind: str) -> None:
    with usher(database_kind) as server:
        await rotate_under(server, 20)


@pytest.mark.timeout(600)
@pytest.mark.gen_test(timeout=500)
async def test_a_thousand_sockets_live_through_every_rotation(database_kind: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        limits = {"MAX_SOCKETS_PER_USER": 2000, "LIMIT_TICKETS": 5000}
        with usher(database_kind, **limits) as server:
            await rotate_under(server, 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.gen_test
async def test_secrets_in_files_are_read_anew_at_a_hangup(
    database_kind: str, tmp_path: Path
) -> None:
    jwt, keys = tmp_path / "jwt", tmp_path / "keys"
    old_key = Fernet.generate_key().decode()
    jwt.write_text("a" * 40 + "\n")
    keys.write_text(old_key)
    files = {"JWT_SECRETS_FILE": jwt, "ENCRYPTION_KEYS_FILE": keys}
    with usher(database_kind, **files) as server:
        client = sign_up(server)
        async with connect(server, subprotocols=bearer(client.token)) as socket:
            await event(socket, "joined")
            jwt.write_text("b" * 40 + "," + "a" * 40)
            keys.write_text(f"{Fernet.generate_key().decode()},{old_key}")
            server.process.send_signal(signal.SIGHUP)
            both = "read anew: USHER_JWT_SECRETS, USHER_ENCRYPTION_KEYS"
            wait_until(lambda: both in server.log)
            assert (await ask(socket, "heartbeat"))["ok"] is True
            assert client.get("/api/auth/me").status == 200
            # A secret that is taken out ends what it signed, and admits no other.
            jwt.write_text("b" * 40)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.log.count("settings are read anew") == 2)
            assert client.get("/api/auth/me").status == 401
            assert new_token(client)
            assert client.get("/api/auth/me").status == 200
            assert (await ask(socket, "heartbeat"))["ok"] is True
        assert Client(server).get("/readyz").status == 200


@pytest.mark.parametrize("content", ["short", "", None])
def test_an_invalid_file_changes_nothing_and_is_one_line(
    database_kind: str, tmp_path: Path, content: str | None
) -> None:
    jwt = tmp_path / "jwt"
    jwt.write_text("a" * 40)
    with usher(database_kind, JWT_SECRETS_FILE=jwt) as server:
        client = sign_up(server)
        if content is None:
            jwt.unlink()
        else:
            jwt.write_text(content)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings are not read anew" in server.log)
        (line,) = [line for line in server.output if "not read anew" in line]
        assert "USHER_JWT_SECRETS_FILE: got " in line
        assert client.get("/api/auth/me").status == 200
        assert sign_up(server).get("/api/auth/me").status == 200


def test_generated_keys_that_are_gone_are_not_made_anew_at_a_hangup(database_kind: str) -> None:
    with usher(database_kind) as server:
        client = sign_up(server)
        (server.data_dir / "jwt_secrets.key").unlink()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings are not read anew" in server.log)
        assert client.get("/api/auth/me").status == 200
        assert not (server.data_dir / "jwt_secrets.key").exists()


def test_secrets_that_are_set_elsewhere_are_not_written(database_kind: str) -> None:
    with usher(database_kind, JWT_SECRETS="a" * 40) as server:
        done = subprocess.run(
            [sys.executable, "server.py", "rotate-jwt"],
            cwd=ROOT,
            env=server.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("usher: USHER_JWT_SECRETS: got a setting, takes a new secret")
        assert not (server.data_dir / "jwt_secrets.key").exists()


def test_a_stopped_server_rotates_too(database_kind: str) -> None:
    with usher(database_kind) as server:
        client = sign_up(server)
        assert server.end() == 0
        assert command(server, "rotate-jwt") == {"secrets": 2, "reloaded": None}
        assert command(server, "rotate-keys")["new_key"] is True
        server.restart()
        assert client.get("/api/auth/me").status == 200
        assert Client(server).get("/readyz").status == 200
        secrets = [command(server, "rotate-jwt")["secrets"] for _ in range(4)]
        assert secrets == [3, 4, 5, 5]  # the newest and four older ones
