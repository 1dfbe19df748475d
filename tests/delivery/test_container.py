"""The image and the Compose file, as far as they can be checked without a container engine."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.healthcheck import PATH, status_of
from deploy.make_secrets import write
from handlers.routes import API_ROUTES
from services.settings import settings
from services.settings.table import SETTINGS
from tests.support.databases import kinds
from tests.support.redis import RealRedis
from tests.support.server import PATIENCE, ROOT, Usher, free_port, usher, wait_until

database_kind = kinds("sqlite")
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text("utf-8"))
NAMES = {f"USHER_{each.name}" for each in SETTINGS} | {
    f"USHER_{each.file_name}" for each in SETTINGS if each.secret
}


def instructions() -> list[tuple[str, str]]:
    """Name and text of each instruction, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if line.strip() and line[0] != "#"]
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = (line.partition(" ") for line in joined.split("\n"))
    return [(name, text.strip()) for name, _, text in parts]


def of(name: str) -> list[str]:
    return [text for each, text in instructions() if each == name]


def copied() -> dict[str, str]:
    """What is copied from the build context, and to where below /opt/usher."""
    paths: dict[str, str] = {}
    for text in of("COPY"):
        if text.startswith("--"):
            continue
        *sources, target = text.split()
        for source in sources:
            paths[source] = source if target == "./" else target
    return paths


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for text in of("ENV") for pair in shlex.split(text))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with exactly the files of the image's /opt/usher, without its packages."""
    folder = tmp_path / "opt"
    for source, target in copied().items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / target, ignore=ignored)
        else:
            shutil.copy(ROOT / source, folder / target)
    return folder


@pytest.fixture(scope="module")
def running() -> Iterator[Usher]:
    with usher("sqlite") as server:
        yield server


def test_the_files_of_the_image_are_enough_to_serve_and_stop_at_sigterm(
    image: Path, tmp_path: Path
) -> None:
    """`server.py` from these files alone, with the image's environment and its health check."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("USHER_")}
    own = {"USHER_PORT": str(free_port()), "USHER_DATA_DIR": str(tmp_path / "data")}
    environment = {**kept, **image_environment(), **own, "USHER_HOST": "127.0.0.1"}
    with subprocess.Popen(
        [sys.executable, image / "server.py"],
        env=environment,
        cwd=image,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        check = [sys.executable, str(image / "deploy/healthcheck.py")]

        def healthy() -> bool:
            assert server.poll() is None, server.stderr and server.stderr.read()
            done = subprocess.run(check, env=environment, capture_output=True, check=False)
            return done.returncode == 0

        try:
            wait_until(healthy)
        finally:
            server.send_signal(getattr(signal, of("STOPSIGNAL")[0]))
            server.communicate(timeout=PATIENCE)
    assert server.returncode == 0
    written = [path for path in image.rglob("*") if path.name == "__pycache__"]
    assert not written, "with a read-only file system nothing can be written beside the code"


def test_the_image_has_every_package_that_server_py_imports_and_no_tests() -> None:
    tree = ast.parse((ROOT / "server.py").read_text("utf-8"))
    imported = {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    own = {name for name in imported if (ROOT / name).is_dir()}
    assert own == {"handlers", "services"}
    assert {*own, "models", "static", "server.py"} <= copied().keys()
    assert not {"tests", "benchmarks", "data", "."} & copied().keys()


def test_the_build_context_is_what_the_dockerfile_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied().keys()


def test_the_image_runs_without_root_and_without_a_shell() -> None:
    assert of("USER") == ["10001:10001"]
    (entry,) = of("ENTRYPOINT")
    assert json.loads(entry) == ["/opt/usher/.venv/bin/python", "/opt/usher/server.py"]
    (health,) = of("HEALTHCHECK")
    command = json.loads(health.partition("CMD")[2])
    assert command == ["/opt/usher/.venv/bin/python", "/opt/usher/deploy/healthcheck.py"]
    assert not of("CMD")


def test_the_image_listens_on_the_port_that_it_exposes_and_stores_in_its_volume() -> None:
    environment = image_environment()
    assert {name for name in environment if name.startswith("USHER_")} <= NAMES
    assert of("EXPOSE") == [environment["USHER_PORT"]]
    assert of("VOLUME") == [environment["USHER_DATA_DIR"]]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program = shutil.which("hadolint") or str(Path(sys.executable).parent / "hadolint")
    if not Path(program).exists():
        pytest.skip("hadolint is not installed: make test-delivery")
    done = subprocess.run(
        [program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_health_check_asks_a_route_that_exists() -> None:
    assert PATH in dict(API_ROUTES)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_health_check_of_a_running_server_is_well(running: Usher, host: str) -> None:
    assert status_of({"USHER_HOST": host, "USHER_PORT": str(running.port)}) == 200


@pytest.mark.parametrize("port", ["1", "http"])  # nothing listens on the first
def test_the_health_check_fails_in_one_line_where_nothing_answers(port: str) -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env={"USHER_PORT": port},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("/healthz: ")
    assert done.stderr.count("\n") == 1


def test_compose_starts_usher_after_stores_that_are_healthy() -> None:
    services = COMPOSE["services"]
    needed = services["usher"]["depends_on"]
    assert needed.keys() == {"postgres", "redis"}
    for name, condition in needed.items():
        assert condition == {"condition": "service_healthy"}
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    assert services["usher"]["read_only"] is True
    assert services["usher"]["cap_drop"] == ["ALL"]
    build = services["usher"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_compose_publishes_no_store_and_only_to_this_machine() -> None:
    services = COMPOSE["services"]
    port = image_environment()["USHER_PORT"]
    assert services["usher"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    for name in ("postgres", "redis"):
        assert "ports" not in services[name]
        assert services[name]["networks"] == ["stores"]
    assert COMPOSE["networks"]["stores"]["internal"] is True


def test_the_redis_of_compose_has_a_limit_and_evicts_nothing() -> None:
    # As Compose reads it: ${NAME:-default}.
    words = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", x) for x in COMPOSE["services"]["redis"]["command"]]
    assert words[0] == "redis-server"
    redis = RealRedis(*words[1:])
    try:
        assert redis.ask("CONFIG", "GET", "maxmemory")[1] == b"%d" % 1024**3
        assert redis.ask("CONFIG", "GET", "maxmemory-policy")[1] == b"noeviction"
        assert redis.ask("CONFIG", "GET", "appendonly")[1] == b"yes"
    finally:
        redis.close()


def test_compose_names_only_settings_secrets_and_volumes_that_exist() -> None:
    for service in COMPOSE["services"].values():
        for name in service.get("environment", {}):
            assert not name.startswith("USHER_") or name in NAMES
        for name in service.get("secrets", []):
            assert name in COMPOSE["secrets"]
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        for network in service["networks"]:
            assert network in COMPOSE["networks"]


def test_compose_waits_for_a_drain_before_it_kills() -> None:
    drain = next(float(each.default or 0) for each in SETTINGS if each.name == "DRAIN_SECONDS")
    grace = COMPOSE["services"]["usher"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) >= drain + 20


def test_the_secrets_of_compose_are_settings_that_usher_accepts(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert {*write(folder)} == COMPOSE["secrets"].keys()
    variables = {
        name: value.replace("/run/secrets", str(folder))
        for name, value in COMPOSE["services"]["usher"]["environment"].items()
        if not value.startswith("$")
    }
    chosen = settings.load({**variables, "USHER_DATA_DIR": str(tmp_path / "data")}, [])
    assert not chosen.embedded
    assert not chosen.warnings
    password = (folder / "postgres_password").read_text("utf-8").strip()
    assert chosen.database_url.reveal() == f"postgresql://usher:{password}@postgres:5432/usher"


def test_the_secrets_are_closed_to_others_and_kept_by_a_second_run(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    write(folder)
    before = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "jwt_secrets").unlink()
    assert write(folder) == ["jwt_secrets"]
    after = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert after.pop("jwt_secrets") != before.pop("jwt_secrets")
    assert after == before
