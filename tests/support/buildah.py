"""Builds an image with buildah, without a daemon, a registry or a network."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.tools import absent, find_program


class Buildah:
    """Images and containers in a folder of their own, removed at the end.

    Args:
        storage: made; some gigabytes.
    """

    def __init__(self, storage: Path) -> None:
        program = find_program("buildah", "buildah")
        places = ["--root", str(storage / "root"), "--runroot", str(storage / "run")]
        self._storage = storage
        self._command = [str(program), *places, "--storage-driver", "overlay"]

    def __enter__(self) -> Buildah:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._try("umount", "--all")
        self._try("rm", "--all")
        shutil.rmtree(self._storage, ignore_errors=True)

    def make_base(self, root: Path, name: str) -> None:
        """An image of this name from the files of a folder. Where it cannot be made, the test is
        skipped."""
        made = self._try("from", "scratch")
        if made.returncode != 0:
            absent(f"buildah does not work here: {made.stderr.strip()[-300:]}")
        container = made.stdout.strip()
        place = self._run("mount", container).strip()
        subprocess.run(["cp", "--archive", f"{root}/.", place], check=True)
        self._run("umount", container)
        self._run("commit", "--quiet", container, name)
        self._run("rm", container)

    def build(self, dockerfile: Path, context: Path, wheels: Path) -> str:
        """Build an image, and return its name.

        Args:
            wheels: from which pip installs, at /wheels while it builds.
        """
        options = ["--isolation", "chroot", "--pull-never", "--format", "docker"]
        files = ["--file", str(dockerfile), "--volume", f"{wheels}:/wheels:ro"]
        self._run("bud", *options, *files, "--tag", "localhost/built", str(context))
        return "localhost/built"

    def configuration(self, image: str) -> dict[str, Any]:
        """What the image says about how it is run, in Docker's words."""
        said = json.loads(self._run("inspect", "--type", "image", image))
        configuration: dict[str, Any] = said["Docker"]["config"]
        return configuration

    def mount(self, image: str) -> Path:
        """The files of a container of the image."""
        container = self._run("from", "--pull-never", image).strip()
        return Path(self._run("mount", container).strip())

    def _run(self, *words: str) -> str:
        done = self._try(*words)
        assert done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._command, *words], capture_output=True, text=True, check=False)
