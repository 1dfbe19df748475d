"""The process: how it starts, what it prints, how it stops, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.checks import children, content, holding, plain_refusal
from tests.support.databases import kinds, on_both
from tests.support.postgres import postgres_server
from tests.support.redis import alive
from tests.support.redis import ask as ask_redis
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    ROOT,
    Client,
    Usher,
    address,
    ask,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    new_token,
    receive,
    sign_up,
    usher_from_scratch,
    wait_until,
)
from tests.support.tools import first_of

usher = usher_from_scratch
database_kind = kinds("sqlite")  # a process, its signals and its flags are the same on both
PEM = "-----BEGIN PUBLIC KEY-----\n" + "x" * 64 + "\n-----END PUBLIC KEY-----"
DATABASES = {"sqlite": "SQLite, in the data folder", "postgresql": "PostgreSQL"}
SECRET = "k" * 20 + "-never-to-be-seen-" + "z" * 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short path, taken away afterwards."""
    with tempfile.TemporaryDirectory(prefix="usher-t-") as name:
        yield Path(name)


def start(folder: Path, *argv: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Start it with settings that it can't start with, or flags that end it at once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("USHER_")}
    chosen = {"PORT": 0, "DATA_DIR": folder / "data", **settings}
    environment |= {f"USHER_{name}": str(value) for name, value in chosen.items()}
    return subprocess.run(
        [sys.executable, "server.py", *argv],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def redis_of(server: Usher) -> int:
    """The process of the embedded Redis."""
    pid = int((server.data_dir / "redis" / "redis.pid").read_text())
    assert alive(pid)
    return pid


# ---- starting -------------------------------------------------------------------------------


@on_both
def test_the_start_screen_shows_where_everything_is(database_kind: str) -> None:
    with usher(database_kind) as server:
        screen = [line.strip() for line in server.output if line.startswith("  ")]
        assert screen[0].startswith("Usher ")
        assert screen[0].endswith(" is ready")
        reported = dict(line.split(None, 1) for line in screen[1:-1])
        assert reported == {
            "Open": f"http://localhost:{server.port}",
            "Socket": f"ws://localhost:{server.port}/ws",
            "Listens": f"http://127.0.0.1:{server.port}",
            "Data": str(server.data_dir.resolve()),
            "Database": DATABASES[database_kind],
            "Redis": "embedded, in the data folder",
            "Mail": f"no SMTP_URL: as files in {server.data_dir.resolve() / 'mail'}",
            "Accounts": "none yet: the first to sign up becomes the administrator",
        }
        assert "Ctrl+C" in screen[-1]
        # A machine that stalls the server while it starts is reported, and is no fault of it.
        complaints = [line for line in server.output if "WARNING" in line or "ERROR" in line]
        assert [line for line in complaints if "the event loop stalled" not in line] == []
        assert Client(server).get("/healthz").status == 200


def test_both_names_of_this_machine_are_its_own(database_kind: str) -> None:
    """The one that is announced, and the one where it listens."""
    with usher(database_kind) as server:
        browser = sign_up(server, browser=True)
        for name in ("localhost", "127.0.0.1"):
            origin = f"http://{name}:{server.port}"
            assert browser.post("/api/ws/ticket", Origin=origin).status == 201
        foreign = browser.post("/api/ws/ticket", Origin=f"http://localhost:{server.port - 1}")
        assert foreign.status == 403


def test_with_a_public_url_the_screen_shows_where_the_node_listens(database_kind: str) -> None:
    with usher(database_kind, PUBLIC_URL="https://usher.example") as server:
        screen = [line.split(None, 1) for line in server.output if line.startswith("  ")]
        assert ["Open", "https://usher.example\n"] in screen
        assert ["Listens", f"http://127.0.0.1:{server.port}\n"] in screen


HOSTS = ["127.0.0.1", "127.0.0.2", "localhost", "::1", "0.0.0.0", "::"]


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
def test_what_is_announced_is_where_it_listens(host: str) -> None:
    settings = {"OAUTH_GITHUB_CLIENT_ID": "x", "OAUTH_GITHUB_CLIENT_SECRET": "y"}
    with usher("sqlite", HOST=host, OAUTH_PROVIDERS="github", **settings) as server:
        # The harness goes to what the start screen says, with that for an Origin.
        browser = sign_up(server, browser=True)
        assert browser.post("/api/ws/ticket").status == 201
        location = browser.get("/oauth/github/login").headers["Location"]
        sent = parse_qs(urlsplit(location).query)
        assert sent["redirect_uri"] == [f"{server.url}/oauth/github/callback"]


def test_a_sqlite_file_elsewhere_is_not_said_to_be_in_the_data_folder(folder: Path) -> None:
    with usher(f"sqlite:///{folder / 'elsewhere.db'}") as server:
        assert "  Database  SQLite, in the file of USHER_DATABASE_URL\n" in server.output


@on_both
def test_what_lies_in_the_data_folder_is_for_this_user_only(database_kind: str) -> None:
    with usher(database_kind) as server:
        sign_up(server)
        found = [server.data_dir, *server.data_dir.rglob("*")]
        names = {path.name for path in found}
        private = {"jwt_secrets.key", "encryption_keys.key"}
        private |= {"usher.db"} if database_kind == "sqlite" else set()
        assert private | {"redis"} <= names
        open_to_others = [p for p in found if stat.S_IMODE(p.lstat().st_mode) & 0o077]
        assert [p for p in open_to_others if not stat.S_ISSOCK(p.lstat().st_mode)] == []
        assert stat.S_IMODE((server.data_dir / "redis").stat().st_mode) == 0o700
        for name in private:
            assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600


@pytest.mark.slow
def test_keys_are_made_once(database_kind: str) -> None:
    with usher(database_kind) as server:
        keys = [(server.data_dir / f"{name}.key") for name in ("jwt_secrets", "encryption_keys")]
        before = [key.read_bytes() for key in keys]
        server.restart()
        assert [key.read_bytes() for key in keys] == before
        assert before[0] != before[1]
    with usher(database_kind) as other:
        assert (other.data_dir / "jwt_secrets.key").read_bytes() != before[0]


BAD_SETTINGS = {
    "PORT": "http",
    "DATABASE_URL": f"mysql://usher:{SECRET}@db/usher",
    "JWT_SECRETS": SECRET[:31],
    "OAUTH_PROVIDERS": "acme",
    "HOST": "256.1.1.1",
    "REDIS_URL": f"http://:{SECRET}@redis",
    "ENCRYPTION_KEYS": SECRET,
    "ACCESS_TOKEN_TTL_SECONDS": "-1",
    "REFRESH_TOKEN_TTL_SECONDS": "soon",
    "SESSION_LIFETIME_SECONDS": "0",
    "TICKET_TTL_SECONDS": "1h",
    "JOIN_TIMEOUT_SECONDS": "nan",
    "PUBLIC_URL": "usher.example.org",
    "ALLOWED_ORIGINS": "*",
    "TRUSTED_PROXIES": "10.0.0.0/33",
}


@pytest.mark.parametrize("name", first_of(BAD_SETTINGS, 4))
def test_an_invalid_setting_is_one_line_on_stderr_and_status_2(folder: Path, name: str) -> None:
    ended = start(folder, **{name: BAD_SETTINGS[name]})
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"usher: USHER_{name if name != 'OAUTH_PROVIDERS' else 'OAUTH_ACME'}")
    assert ": got " in line
    assert ", takes " in line
    assert holding([SECRET, SECRET[:31]], line) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    first_of(
        [
            {"REDIS_URL": "rediss://127.0.0.1:1/0?ssl_ca_certs=/nowhere/ca.pem"},
            {"REDIS_URL": "redis://127.0.0.1:1/0?db=x"},
            {"REDIS_URL": "redis://127.0.0.1:1/0?protocol=x"},
            {"JWT_SECRETS": PEM},
            {"DATABASE_URL": "postgresql://127.0.0.1:1/usher?sslmode=perhaps"},
            {"DATABASE_URL": "sqlite:////proc/usher.db"},
            {"DATA_DIR": "/proc/usher"},
        ],
        2,
    ),
    ids=str,
)
def test_a_setting_that_turns_out_to_be_unusable_is_one_line_too(
    folder: Path, setting: dict[str, str]
) -> None:
    ended = start(folder, **setting)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("usher: ")]
    assert len(lines) == 1, ended.stderr
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    (name,) = setting
    if ended.returncode == 2:
        assert ended.stderr.splitlines() == lines
        assert f"USHER_{name}" in lines[0]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_unknown_option_in_a_database_url_is_one_line_and_status_2(
    folder: Path, kind: str
) -> None:
    with ExitStack() as stack:
        if kind == "postgresql":
            url = stack.enter_context(postgres_server().database())
        else:
            url = f"sqlite:///{folder}/usher.db"
        ended = start(folder, DATABASE_URL=f"{url}{'&' if '?' in url else '?'}foo=1")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("usher: USHER_DATABASE_URL: got ")
    assert "foo" in line
    assert ", takes " in line
    assert ended.returncode == 2
    assert not (folder / "usher.db").exists()


def test_a_database_whose_user_lacks_a_right_is_one_line_on_stderr_and_status_2(
    folder: Path,
) -> None:
    """PostgreSQL 15 and later: nobody may create tables in somebody else's schema `public`."""
    postgres = postgres_server()
    role = f"u{secrets.token_hex(6)}"
    postgres.psql("postgres", f"CREATE ROLE {role} LOGIN")
    try:
        with postgres.database() as url:
            ended = start(folder, DATABASE_URL=url.replace("postgres:@", f"{role}@"))
    finally:
        postgres.psql("postgres", f"DROP ROLE {role}")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("usher: USHER_DATABASE_URL")
    assert "permission denied for schema public" in line
    assert ended.returncode == 2


def test_a_database_that_does_not_answer_stops_the_start_without_its_password(
    folder: Path,
) -> None:
    ended = start(folder, DATABASE_URL=f"postgresql://usher:{SECRET}@127.0.0.1:1/usher")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr + ended.stdout
    assert "127.0.0.1:1" in ended.stderr.splitlines()[-1]


def test_a_port_in_use_is_one_line_on_stderr_and_status_2(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = start(folder, PORT=port)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"usher: USHER_PORT: got {port} on 127.0.0.1")


def test_a_folder_of_another_usher_is_one_line_on_stderr_and_status_2(database_kind: str) -> None:
    with usher(database_kind) as server:
        ended = start(server.data_dir, DATA_DIR=server.data_dir)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith("usher: USHER_DATA_DIR: got ")
        assert str(server.process.pid) in line
        # The other is not harmed.
        assert sign_up(server).get("/api/auth/me").status == 200
        redis_of(server)


def test_help_names_every_setting_and_starts_nothing(folder: Path) -> None:
    ended = start(folder, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    for name in BAD_SETTINGS:
        assert "--" + name.lower().replace("_", "-") in ended.stdout
    assert list(folder.iterdir()) == []


def test_the_version_is_printed(folder: Path) -> None:
    ended = start(folder, "--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usher ")


def test_a_flag_wins_over_the_environment(folder: Path) -> None:
    ended = start(folder, "--port", "http", PORT="0")
    assert ended.returncode == 2
    assert ended.stderr.startswith("usher: --port: got 'http', takes ")


def test_a_flag_that_is_invalid_is_one_line(folder: Path) -> None:
    ended = start(folder, "--prot", "1")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "--port" in ended.stderr


# ---- stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.gen_test
async def test_a_stop_sends_sockets_away_with_1012_and_leaves_nothing_running(
    database_kind: str, how: signal.Signals
) -> None:
    with usher(database_kind) as server:
        client, pid = sign_up(server), redis_of(server)
        async with (
            connect(server, subprotocols=bearer(client.token)) as joined,
            connect(server) as unauthenticated,
        ):
            await event(joined, "joined")
            server.process.send_signal(how)
            for socket_ in (joined, unauthenticated):
                frame = await receive(socket_)
                assert frame["event"] == "closing"
                after = frame["data"].pop("after")
                assert 0 < after <= 5
                assert frame["data"] == {
                    "code": 1012,
                    "reason": "service_restart",
                    "retry": "backoff",
                }
                assert await close_code(socket_) == 1012
        started = time.monotonic()
        assert server.end(how) == 0
        assert time.monotonic() - started < 10
        assert not alive(pid)
        assert "Traceback" not in server.log
        left = {p.name for p in (server.data_dir / "redis").iterdir()}
        assert not left & {"redis.pid", "redis.sock"}


def test_a_stop_answers_the_requests_in_progress(database_kind: str) -> None:
    with usher(database_kind, DRAIN_SECONDS=10) as server:
        idle, half = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(2))
        with idle, half:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(4096).startswith(b"HTTP/1.1 200")
            body = json.dumps({"email": address(), "password": PASSWORD, "name": "Ada"}).encode()
            head = f"POST /api/auth/signup HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            half.sendall(head.encode() + b"\r\n" + body[:10])  # its answer takes until the rest
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            idle.settimeout(PATIENCE)
            assert idle.recv(4096) == b""  # nothing was under way
            half.sendall(body[10:])
            half.settimeout(PATIENCE)
            answered = b""
            while chunk := half.recv(65536):
                answered += chunk
            assert answered.startswith(b"HTTP/1.1 201"), answered
        assert server.end() == 0
        assert "could not be answered" not in server.log
        # Once it is answered nothing is waited for.


@pytest.mark.slow
def test_a_stop_does_not_wait_for_silent_connections(database_kind: str) -> None:
    with usher(database_kind, DRAIN_SECONDS=0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            time.sleep(0.2)
            assert server.end() == 0
        assert "1 requests could not be answered in time" in server.log


@pytest.mark.slow
@pytest.mark.gen_test
async def test_a_stop_spreads_the_closing_of_sockets(database_kind: str) -> None:
    with usher(database_kind, DRAIN_SECONDS=2) as server:
        client = sign_up(server)
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(server, f"?ticket={client.ticket()}"))
                for _ in range(20)
            ]
            for socket_ in sockets:
                await event(socket_, "joined")
            server.process.send_signal(signal.SIGTERM)
            loop = asyncio.get_running_loop()

            async def ended(socket_: ClientConnection) -> float:
                await event(socket_, "closing")
                return loop.time()

            ends = sorted(await asyncio.gather(*map(ended, sockets)))
            assert ends[-1] - ends[0] > 1
            # Those that are not closed yet go on being served meanwhile: half of the gaps exist.
            assert sum(b - a > 0.02 for a, b in pairwise(ends)) > 10
        assert server.end() == 0


@pytest.mark.slow
@pytest.mark.gen_test
async def test_a_hangup_stops_nothing(database_kind: str) -> None:
    with usher(database_kind) as server:
        client = sign_up(server)
        async with connect(server, subprotocols=bearer(client.token)) as socket_:
            await event(socket_, "joined")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "settings are read anew" in server.log)
            assert (await ask(socket_, "heartbeat"))["ok"] is True
        assert client.get("/api/auth/me").status == 200


LARGE = 16 * 1024


def open_files(server: Usher) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("size", [LARGE + 1000, 20 * LARGE])
@pytest.mark.parametrize("path", ["/healthz", "/ws"])
def test_headers_that_are_too_large_get_431(server: Usher, size: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Large: {'x' * size}\r\n\r\n"
        client.sendall(request.encode())
        answered = b""
        while chunk := client.recv(65536):
            answered += chunk
    head, _, body = answered.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "headers_too_large"


def test_headers_below_the_bound_are_accepted(server: Usher) -> None:
    answer = Client(server).call("GET", "/healthz", None, {"X-Large": "x" * (LARGE - 1000)})
    assert answer.status == 200


def test_headers_without_an_end_get_431_and_leave_nothing_open(server: Usher) -> None:
    before = open_files(server)
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            )
            client.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000)
            assert client.recv(4096).startswith(b"HTTP/1.1 431")
        # They send nothing more and do not close either.
        wait_until(lambda: open_files(server) <= before + 5)


def test_a_stop_ends_idle_connections_and_every_child(database_kind: str) -> None:
    with usher(database_kind) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            started = children(server.process.pid)
            assert started
            assert server.end() == 0
            while idle.recv(4096):
                pass
        assert [pid for pid in started if alive(pid)] == []


@pytest.mark.slow
@on_both
@pytest.mark.gen_test
async def test_a_restart_remembers_accounts_sessions_and_revocations(database_kind: str) -> None:
    await restart_and_remember(database_kind, signal.SIGTERM)


@on_both
@pytest.mark.gen_test
async def test_a_kill_leaves_no_redis_and_the_next_start_remembers_everything(
    database_kind: str,
) -> None:
    await restart_and_remember(database_kind, signal.SIGKILL)


async def restart_and_remember(database_kind: str, how: signal.Signals) -> None:
    with usher(database_kind) as server:
        email = address()
        client = sign_up(server, email=email)
        ended, ticket = log_in(server, email), client.ticket()
        ended_ticket = ended.ticket()
        assert ended.post("/api/auth/logout").status == 204
        async with connect(server, subprotocols=bearer(client.token)) as socket_:
            await event(socket_, "joined")
            pid = redis_of(server)
            server.restart(how)
            assert await close_code(socket_) == (1012 if how == signal.SIGTERM else 1006)
        wait_until(lambda: not alive(pid))
        assert redis_of(server) != pid
        assert client.get("/api/auth/me").status == 200
        plain_refusal(ended.get("/api/auth/me"), 401, "unauthenticated")
        body = {"refresh_token": ended.refresh_token}
        plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
        # The embedded Redis has started anew, too, and may have forgotten that a ticket was used.
        for old in (ticket, ended_ticket):
            async with connect(server, f"?ticket={old}") as socket_:
                assert await close_code(socket_) == 4503
        async with connect(server, f"?ticket={client.ticket()}") as socket_:
            assert (await event(socket_, "joined"))["user"]["id"] == client.user["id"]
        async with connect(server, subprotocols=bearer(ended.token)) as socket_:
            assert await close_code(socket_) == 4401
        assert new_token(client)
        assert log_in(server, email).get("/api/auth/me").status == 200


def test_a_killed_server_leaves_no_redis_behind(database_kind: str) -> None:
    with usher(database_kind) as server:
        pid = redis_of(server)
        server.end(signal.SIGKILL)
        wait_until(lambda: not alive(pid))


# ---- secrets --------------------------------------------------------------------------------


@on_both
@pytest.mark.gen_test
async def test_no_secret_reaches_the_log_redis_or_the_database(database_kind: str) -> None:
    secrets_ = ",".join(letter * 40 for letter in "pq")
    with usher(database_kind, JWT_SECRETS=secrets_) as server:
        words, addresses = await whole_flow(server)
        words += secrets_.split(",")
        words.append((server.data_dir / "encryption_keys.key").read_text().split()[-1])
        path = server.data_dir / "redis" / "redis.sock"
        keys = ask_redis(path, "KEYS", "*")
        assert len(keys) > 3
        for key in keys:
            kind = ask_redis(path, "TYPE", key)
            value = (
                ask_redis(path, "GET", key)
                if kind == b"string"
                else repr(ask_redis(path, "ZRANGE", key, 0, -1)).encode()
            )
            assert holding(words + addresses, key + b" " + value) == []
        assert server.end() == 0
        assert "POST /api/auth/login" in server.log  # it does log what was refused
        assert holding(words + addresses, server.log) == []
        files = [p for p in (server.data_dir / "redis").rglob("*") if p.is_file()]
        assert any(p.suffix == ".aof" and p.stat().st_size for p in files)
        for file in files:
            assert holding(words + addresses, file.read_bytes()) == [], file
        # The database holds the addresses, and of all else hashes only.
        for file in server.data_dir.glob("usher.db*"):
            assert holding(words, file.read_bytes()) == [], file
        kept = content(server)
        assert len(kept["users"]) == len(addresses)
        assert holding(words, repr(kept)) == []


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_unauthenticated_clients_put_where_it_does_not_belong_reaches_no_log(
    log_format: str,
) -> None:
    with usher("sqlite", LOG_FORMAT=log_format) as server:
        client, email = sign_up(server), address()
        ticket, token = client.ticket(), str(client.token)
        query = f"ticket={ticket}&access_token={token}&email={email}"
        protocol = "Sec-WebSocket-Protocol"
        form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1\r\n\r\n"
        requests = [
            f"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\x01\r\n\r\n",
            f"GET /healthz HTTP/1.1\r\nHost: x\r\nX\x02{token}: y\r\n\r\n",
            f"GET /healthz HTTP/1.1\r\nHost: {token}@{email}\r\n\r\n",
            f"GET /ws HTTP/1.1\r\nHost: x\r\n{protocol}: usher.bearer.{token}\x7f\r\n\r\n",
            f"{token} /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /api/{email} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /api/{email.replace('@', '%40')} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /api/{token}/{ticket}/{client.refresh_token} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"POST /api/auth/login?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            f"GET /ws?{query} HTTP/1.1\r\nHost: x\r\nOrigin: https://{email}\r\n\r\n",
            f"GET /ws?{query}&{'x' * 5000} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Encoding: {token}\r\n{form}=",
        ]
        for request in requests:
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as raw:
                raw.sendall(request.encode("latin-1"))
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
        assert server.end() == 0
        assert "Malformed HTTP" in server.log
        assert "[e-mail]" in server.log
        words = [token, ticket, str(client.refresh_token), email, email.partition("@")[0]]
        assert holding(words, server.log) == []
        if log_format == "json":
            logged = [json.loads(line) for line in server.output if line.startswith("{")]
            assert all({"time", "level", "logger"} <= set(line) for line in logged)
            assert len(logged) > 5


async def whole_flow(server: Usher) -> tuple[list[str], list[str]]:
    """Use everything once, well and badly. Returns what was secret in it, and the addresses."""
    emails = [address(), address()]
    new = "nine slow barges 41"
    wrong = "a wrong guess of mine 5"
    client, browser = sign_up(server, email=emails[0]), log_in(server, emails[0], browser=True)
    user = sign_up(server, email=emails[1])
    words = [PASSWORD, new, wrong, str(client.token), str(user.token), *browser.cookies.values()]
    words += [str(client.refresh_token), str(user.refresh_token)]
    login = Client(server).post("/api/auth/login", {"email": emails[0], "password": wrong})
    assert login.status == 401
    taken = {"email": emails[0], "password": wrong, "name": "Eve"}
    assert Client(server).post("/api/auth/signup", taken).status == 409
    changed = user.post("/api/auth/password", {"current_password": PASSWORD, "new_password": new})
    assert changed.status == 204
    bad = Client(server).call("POST", "/api/auth/login", b'{"password": "' + wrong.encode())
    assert bad.status == 400
    for query in ("ticket=", "token=", "access_token="):
        assert Client(server).get(f"/nope?{query}{client.token}").status == 404
    tickets = [client.ticket() for _ in range(4)]
    words += tickets
    for ticket in (tickets[0], tickets[0], tickets[1] + "x"):
        async with connect(server, f"?ticket={ticket}") as socket_:
            await receive(socket_)
    async with connect(server, subprotocols=bearer(client.token)) as socket_:
        await event(socket_, "joined")
        await socket_.send(f'{{"event": "token-refresh", "data": {{"token": "{tickets[2]}"}}}}')
        words.append(str(new_token(client)))
        words.append(str(client.refresh_token))
        assert client.post("/api/auth/logout").status == 204
        assert await close_code(socket_) == 4410
    async with connect(server, subprotocols=bearer(client.token)) as socket_:
        assert await close_code(socket_) == 4401
    async with connect(server) as socket_:
        data = f'{{"auth": {{"token": "{user.token}x"}}}}'
        await socket_.send(f'{{"event": "user-join", "data": {data}}}')
        assert await close_code(socket_) == 4401
    body = {"refresh_token": client.refresh_token}
    assert Client(server).post("/api/auth/refresh", body).status == 401
    assert browser.post("/api/auth/refresh").status == 200
    words += browser.cookies.values()
    return words, emails
