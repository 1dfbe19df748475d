"""clients/js as npm packs it, installed into a folder of somebody else's."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.npm import PINNED
from tests.support.server import ROOT
from tests.support.tools import missing, need

SOURCE = ROOT / "clients" / "js"
NPM_FLAGS = ("--no-audit", "--no-fund", "--silent")
CONSUMER = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "nodenext",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
    },
    "files": ["every_call.ts"],
}


@dataclass
class Packed:
    """What `npm pack` made, and the compiler that made its types."""

    tarball: Path
    tsc: Path
    folder: Path

    def app(self, name: str, *packages: str) -> Path:
        """A project with the package installed, and others."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        wanted = [f"{package}@{PINNED[package]}" for package in packages]
        npm("install", *NPM_FLAGS, str(self.tarball), *wanted, cwd=folder)
        return folder


def npm(*words: str, cwd: Path) -> None:
    """Run npm. Without the registry the test is skipped; in CI it fails."""
    program = need("the package of clients/js needs it (apt-get install npm)", "npm")
    done = subprocess.run(
        [program, *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        if "error TS" in done.stdout:
            raise AssertionError(done.stdout)
        missing(f"npm {' '.join(words)}: {(done.stdout + done.stderr)[-300:]}")


@contextmanager
def packed() -> Iterator[Packed]:
    """Build and pack it, from a copy: nothing is left in the repository."""
    with tempfile.TemporaryDirectory(prefix="usher-js-") as name:
        folder = Path(name)
        own = folder / "clients" / "js"
        shutil.copytree(SOURCE, own, ignore=shutil.ignore_patterns("node_modules", "dist", "*.tgz"))
        (folder / "static").mkdir()
        for file in (ROOT / "static").glob("usher*.js"):
            shutil.copy(file, folder / "static")
        npm("install", *NPM_FLAGS, "--ignore-scripts", cwd=own)
        npm("pack", "--silent", cwd=own)
        [tarball] = own.glob("*.tgz")
        yield Packed(tarball, own / "node_modules" / "typescript" / "bin" / "tsc", folder)


def type_check(packed: Packed, app: Path, program: Path) -> str:
    """What `tsc --strict` has against a program; "" if nothing."""
    shutil.copy(program, app)
    (app / "tsconfig.json").write_text(json.dumps(CONSUMER))
    node = need("the package of clients/js needs it (apt-get install nodejs)", "node")
    done = subprocess.run(
        [node, packed.tsc, "--project", app],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) == (not done.stdout), done
    return done.stdout
