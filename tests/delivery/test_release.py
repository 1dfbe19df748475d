"""`make release`: what it builds is the same each time, installs on its own, and works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy.release import BESIDE, SUMS, ReleaseError, build
from services.settings.settings import VERSION
from tests.support.installed import install, installed_usher, run
from tests.support.js_package import NPM_FLAGS, npm
from tests.support.js_readme import the_readme_prints
from tests.support.node import node_command
from tests.support.python_package import PROGRAM
from tests.support.server import PASSWORD, ROOT, Usher, address, sign_up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("cyclonedx_py") is None or shutil.which("npm") is None,
        reason="cyclonedx-bom or npm is not installed: make test-delivery",
    ),
]
WHEEL = f"usher_server-{VERSION}-py3-none-any.whl"
SOURCES = f"usher_server-{VERSION}.tar.gz"
SBOM = f"usher_server-{VERSION}.cdx.json"
CLIENT_WHEEL = f"usher_client-{VERSION}-py3-none-any.whl"
CLIENT_SOURCES = f"usher_client-{VERSION}.tar.gz"
NPM = f"usher-client-{VERSION}.tgz"
CLIENT_ONLY = {"anyio", "exceptiongroup", "h11", "httpcore", "httpx", "websockets"}
"""Of these the server has none."""
LIST = """
from importlib.metadata import distributions
for each in distributions():
    print(each.metadata["Name"] + "==" + each.version)
"""
VALIDATE = """
import sys
from pathlib import Path
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text("utf-8")))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release") / "dist"
    run(sys.executable, "-m", "deploy.release", "--allow-dirty", "--out", out, cwd=ROOT)
    return out


@pytest.fixture(scope="module")
def programs(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheels of the server and of the client."""
    folder = tmp_path_factory.mktemp("installed")
    client = f"{dist / CLIENT_WHEEL}[backend]"
    return install(folder, dist / WHEEL, client, constraints=dist / "constraints.txt")


@pytest.fixture(scope="module")
def running(programs: Path) -> Iterator[Usher]:
    with installed_usher([str(programs / "usher")], APP_AUDIENCES="board") as server:
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_release_has_every_file_and_their_sums(dist: Path) -> None:
    archives = {WHEEL, SOURCES, SBOM, CLIENT_WHEEL, CLIENT_SOURCES, NPM}
    assert set(contents(dist)) == archives | {SUMS} | {Path(name).name for name in BESIDE}
    run("sha256sum", "--check", "--strict", SUMS, cwd=dist)
    assert len((dist / SUMS).read_text("utf-8").splitlines()) == len(contents(dist)) - 1


def test_a_second_build_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """In another folder and time zone, with another umask, from files with other dates."""
    sources = tmp_path / "elsewhere"
    for name in filter(None, run("git", "ls-files", "-z", cwd=ROOT).split("\0")):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, sources / name)
        (sources / name).chmod(0o700 if (ROOT / name).stat().st_mode & 0o100 else 0o600)
    epoch = run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()
    again = tmp_path / "dist"
    command = ('umask 077; exec "$0" -m deploy.release --out "$1"', sys.executable, again)
    run("sh", "-c", *command, cwd=sources, TZ="Pacific/Chatham", SOURCE_DATE_EPOCH=epoch)
    first, second = contents(dist), contents(again)
    assert [name for name in first if first[name] != second.get(name)] == []
    assert first.keys() == second.keys()


def test_the_source_archive_builds_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(dist / SOURCES) as archive:
        archive.extractall(tmp_path, filter="data")
    [sources] = tmp_path.iterdir()
    epoch = str(int((sources / "pyproject.toml").stat().st_mtime))
    hatchling = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    run(*hatchling, cwd=sources, SOURCE_DATE_EPOCH=epoch)
    assert (tmp_path / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


def test_the_wheel_takes_one_name_and_has_what_the_server_reads(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        names = wheel.namelist()
    own = {name.partition("/")[0] for name in names}
    assert own == {"usher_server", f"usher_server-{VERSION}.dist-info"}
    tracked = run(
        "git", "ls-files", "server.py", "handlers", "models", "services", "static", cwd=ROOT
    )
    shipped = {name.removeprefix("usher_server/app/") for name in names if "/app/" in name}
    assert set(tracked.split()) <= shipped
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_usher_runs_from_the_wheel_with_its_data_in_the_current_folder(
    programs: Path, tmp_path: Path
) -> None:
    assert run(programs / "usher", "--version", cwd=tmp_path) == f"usher {VERSION}\n"
    assert run(programs / "usher", "--help", cwd=tmp_path).startswith("usage: usher ")
    assert run(programs / "usher", "invite", "--help").startswith("usage: usher invite ")
    assert not list(tmp_path.iterdir())
    said = run(programs / "python", "-m", "usher_server", "check", "--port", "0", cwd=tmp_path)
    assert "database" in said
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_packages_of_usher_are_no_modules_of_the_environment(
    programs: Path, tmp_path: Path
) -> None:
    for name in ("server", "handlers", "models", "services"):
        found = f"from importlib.util import find_spec; print(find_spec({name!r}))"
        assert run(programs / "python", "-c", found, cwd=tmp_path) == "None\n"


def test_a_module_named_models_in_the_environment_is_not_taken_for_ushers(
    programs: Path, tmp_path: Path
) -> None:
    (tmp_path / "models.py").write_text("raise SystemExit('not this one')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [str(programs / "usher"), "list-users", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "there is no database" in done.stderr


def test_several_processes_of_the_wheel_share_a_port(programs: Path) -> None:
    with installed_usher([str(programs / "usher")], PROCESSES=2) as server:
        client = sign_up(server)
        assert client.get("/api/auth/me").status == 200
        assert server.end() == 0


def test_the_installed_server_serves_its_pages_documents_and_mails(running: Usher) -> None:
    client = sign_up(running)
    for path in ("/", "/docs", "/openapi.json", "/client/usher.js", "/static/app.js", "/readyz"):
        assert client.get(path).status == 200, path
    assert client.post("/api/auth/email/verify", {}).status in {200, 202, 204}


def test_the_npm_package_installs_in_an_empty_folder_and_its_example_runs(
    dist: Path, running: Usher, tmp_path: Path
) -> None:
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    npm("install", *NPM_FLAGS, str(dist / NPM), cwd=tmp_path)
    the_readme_prints(running, node_command(), tmp_path)


def test_the_pip_package_works_from_an_environment_without_the_repository(
    programs: Path, running: Usher
) -> None:
    email = address()
    client = sign_up(running, email=email)
    channel = client.post("/api/channels", {"name": "tea", "private": False})
    room = f"channel:{channel.body['id']}"
    said = run(programs / "python", "-c", PROGRAM, running.url, email, PASSWORD, room)
    assert said.split() == [VERSION, "hello", "True"]
    run(sys.executable, "-m", "pip", "--python", programs / "python", "check")


def test_the_sbom_is_valid_and_names_what_the_wheel_brings(dist: Path, programs: Path) -> None:
    assert run(sys.executable, "-c", VALIDATE, dist / SBOM) == "None\n"
    document = json.loads((dist / SBOM).read_text("utf-8"))
    assert document["metadata"]["component"]["version"] == VERSION
    named = {f"{each['name']}=={each['version']}" for each in document["components"]}
    installed = run(programs / "python", "-c", LIST).split()
    not_listed = {"usher-client", "usher-server", *CLIENT_ONLY}
    own = {each for each in installed if each.partition("==")[0] not in not_listed}
    assert named == own
    assert all(each.get("licenses") for each in document["components"])


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ReleaseError, match="other files"):
        build(tmp_path, allow_dirty=True)
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_changes_that_are_not_committed_are_not_released(tmp_path: Path) -> None:
    sources = tmp_path / "usher"
    run("git", "clone", "--quiet", "--shared", ROOT, sources)
    (sources / "services/new.py").write_text("")
    with pytest.raises(ReleaseError, match="not committed"):
        build(tmp_path / "dist", root=sources)
    assert not (tmp_path / "dist").exists()


def test_sources_with_two_versions_are_not_released(tmp_path: Path) -> None:
    sources = tmp_path / "usher"
    run("git", "clone", "--quiet", "--shared", ROOT, sources)
    path = sources / "static/usher-app.js"
    path.write_text(path.read_text("utf-8").replace(f"'{VERSION}'", "'0.9.0'"), "utf-8")
    with pytest.raises(ReleaseError, match=r"another version .*static/usher-app\.js"):
        build(tmp_path / "dist", root=sources)
