"""deploy/install.sh and deploy/Dockerfile in a bare Debian: what a new machine has, and no more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from deploy.release import copy_sources
from deploy.version import write
from services.settings.settings import VERSION
from tests.support.bare import (
    WHEELS,
    another,
    bare_command,
    download,
    in_bare,
    make_bare,
)
from tests.support.buildah import Buildah
from tests.support.installed import installed_usher, run
from tests.support.server import ROOT, Usher, free_port, sign_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NEWER = "99.0.0"
USHER = "/opt/usher/current/bin/usher"
DATA = "/var/lib/usher"
ENVIRONMENT = "etc/usher/usher.env"
SETTINGS = "USHER_SIGNUP=closed\n"
UNIT = "etc/systemd/system/usher.service"
AT_DATA = {"USHER_DATA_DIR": DATA}
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")
READ_ONLY = ["unshare", "--mount", "--propagation", "private", "sh", "-euc"]
READ_ONLY.append("""
root=$0 data=$1 user=$2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$data" "$root/data"
mount -t tmpfs tmpfs "$root/tmp"
! touch "$root/opt/usher/written" 2>/dev/null
shift 2
exec chroot --userspec="$user" "$root" "$@"
""")
"""A program in a root that it cannot write to, but for /data and /tmp. Its arguments: the root, the
folder for /data, the user, and the program with its own."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bare root without anything of Usher."""
    folder = make_bare(tmp_path_factory.mktemp("bare") / "root")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def packages(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of what Usher needs."""
    folder = tmp_path_factory.mktemp("packages")
    download(pristine, folder)
    return folder


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Usher's wheel, with a newer one, and with the script that installs them."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = copy_sources(ROOT, folder / "sources", 1_700_000_000)
    hatchling = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    run(*hatchling, cwd=sources)
    write(NEWER, sources)
    run(*hatchling, cwd=sources)
    shutil.move(sources / "deploy/install.sh", folder)
    shutil.rmtree(sources)
    return folder


@pytest.fixture
def machine(pristine: Path, packages: Path, wheels: Path, tmp_path: Path) -> Iterator[Path]:
    """A bare root with a release in /root, and the packages that it needs."""
    with another(pristine, tmp_path / "machine") as root:
        shutil.copytree(packages, root / WHEELS, dirs_exist_ok=True)
        shutil.copytree(wheels, root / "root", dirs_exist_ok=True)
        yield root


def install(
    machine: Path, *arguments: str, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the script in the folder of the release, as docs/deploy.md says."""
    script = ("sh", "-c", 'cd /root && exec sh install.sh "$@"', "sh", *arguments)
    return in_bare(machine, *script, check=check, variables=variables)


def wheel(version: str) -> str:
    return f"usher_server-{version}-py3-none-any.whl"


def started_as_the_service(machine: Path) -> AbstractContextManager[Usher]:
    """Usher, started as the unit starts it."""
    command = bare_command(machine, USHER, user="usher:usher")
    return installed_usher(command, DATA_DIR=DATA)


def state(machine: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, owner and time of all that the script lays down."""
    found = {}
    for folder in ("opt", "etc", "var/lib"):
        for path in (machine / folder).rglob("*"):
            status = path.lstat()
            found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns)
    return found


def test_usher_is_installed_upgraded_and_removed_by_the_script(machine: Path) -> None:
    before = state(machine)
    install(machine, "--dry-run", wheel(VERSION))
    assert state(machine) == before, "a dry run changes nothing"
    said = install(machine, wheel(VERSION)).stdout
    assert f"usher {VERSION}\n" in said
    assert "then: systemctl start usher" in said
    everything_is_closed_to_others(machine)
    with started_as_the_service(machine) as server:
        email = sign_up(server).get("/api/auth/me").body["email"]
    (machine / ENVIRONMENT).write_text(SETTINGS, "utf-8")
    before = state(machine)
    install(machine, wheel(VERSION))
    assert state(machine) == before, "a second run changes nothing"
    an_upgrade_is_whole_or_nothing_and_can_be_undone(machine)
    listed = in_bare(machine, USHER, "list-users", user="usher:usher", variables=AT_DATA)
    assert email in listed.stdout
    its_removal_keeps_settings_and_data_until_they_are_purged(machine)


def everything_is_closed_to_others(machine: Path) -> None:
    account = in_bare(machine, "getent", "passwd", "usher").stdout.split(":")
    assert account[5:] == [DATA, "/usr/sbin/nologin\n"]
    settings, data = (machine / ENVIRONMENT).stat(), (machine / DATA.lstrip("/")).stat()
    assert (settings.st_mode & 0o777, settings.st_uid) == (0o600, 0)
    assert (data.st_mode & 0o777, data.st_uid) == (0o700, int(account[2]))
    assert (machine / UNIT).read_text("utf-8") == (ROOT / "deploy/usher.service").read_text("utf-8")
    own = [path for path in (machine / "opt").rglob("*") if path.lstat().st_uid != 0]
    assert own == [], "the service cannot change its own program"


def an_upgrade_is_whole_or_nothing_and_can_be_undone(machine: Path) -> None:
    def version() -> str:
        return in_bare(machine, USHER, "--version").stdout

    releases = machine / "opt/usher/releases"
    broken = install(machine, wheel(NEWER), check=False, PIP_FIND_LINKS="/nowhere")
    assert broken.returncode != 0
    assert version() == f"usher {VERSION}\n"
    assert [path.name.partition("-")[0] for path in releases.iterdir()] == [VERSION]
    install(machine, wheel(NEWER))
    assert version() == f"usher {NEWER}\n"
    assert (machine / ENVIRONMENT).read_text("utf-8") == SETTINGS
    assert len(list(releases.iterdir())) == 2, "the one before is kept"
    install(machine, wheel(VERSION), PIP_FIND_LINKS="/nowhere")
    assert version() == f"usher {VERSION}\n"


def its_removal_keeps_settings_and_data_until_they_are_purged(machine: Path) -> None:
    data = machine / DATA.lstrip("/")
    install(machine, "--uninstall")
    assert not (machine / "opt/usher").exists()
    assert not (machine / UNIT).exists()
    assert (machine / ENVIRONMENT).read_text("utf-8") == SETTINGS
    assert list(data.glob("*.db"))
    install(machine, "--uninstall", "--purge")
    assert not (machine / ENVIRONMENT).parent.exists()
    assert not data.exists()
    assert in_bare(machine, "getent", "passwd", "usher", check=False).returncode == 2


@pytest.fixture(scope="module")
def image(
    pristine: Path, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files and the configuration of the image, built from the bare Debian in the place of the
    image of Python."""
    [base] = {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")}
    with Buildah(tmp_path_factory.mktemp("buildah") / "storage") as buildah:
        buildah.make_base(pristine, f"docker.io/library/{base}")
        built = buildah.build(ROOT / "deploy/Dockerfile", ROOT, packages)
        yield buildah.mount(built), buildah.configuration(built)


def test_the_dockerfile_builds_an_image_that_serves_on_a_read_only_file_system(
    image: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    root, configured = image
    user = configured["User"]
    assert configured["Labels"]["org.opencontainers.image.version"] == VERSION
    volume = (root / "data").stat()
    assert (f"{volume.st_uid}:{volume.st_gid}", volume.st_mode & 0o777) == (user, 0o700)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, volume.st_uid, volume.st_gid)

    variables = dict(each.split("=", 1) for each in configured["Env"])
    own = {name: value for name, value in variables.items() if name.startswith("USHER_")}
    others = [f"{name}={value}" for name, value in variables.items() if name not in own]
    port = str(free_port())
    settings = {name.removeprefix("USHER_"): value for name, value in own.items()}
    settings |= {"HOST": "127.0.0.1", "PORT": port}
    command = [*READ_ONLY, str(root), str(data), user, "env", *others, *configured["Entrypoint"]]
    with installed_usher(command, **settings) as server:
        client = sign_up(server)
        assert client.get("/docs").status == 200
        kind, *check = configured["Healthcheck"]["Test"]
        assert kind == "CMD"
        listens = {"USHER_HOST": "127.0.0.1", "USHER_PORT": port}
        in_bare(root, *check, user=user, variables=listens)
        assert server.end(signal.Signals[configured["StopSignal"]]) == 0
    assert list(data.glob("*.db"))
    assert not (root / "opt/usher/.venv/bin/pip").exists()
    assert not (root / "opt/usher/tests").exists()
