"""The process: how it starts, what it prints, and what it refuses to start with."""

from __future__ import annotations

import secrets
import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.checks import holding
from tests.support.databases import on_both
from tests.support.postgres import postgres_server
from tests.support.process import database_kind, folder, redis_of, start, usher
from tests.support.server import Client, sign_up
from tests.support.tools import first_of

__all__ = ["database_kind"]

__all__ = ["folder"]

PEM = "-----BEGIN PUBLIC KEY-----\n" + "x" * 64 + "\n-----END PUBLIC KEY-----"
DATABASES = {"sqlite": "SQLite, in the data folder", "postgresql": "PostgreSQL"}
SECRET = "k" * 20 + "-never-to-be-seen-" + "z" * 20


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
