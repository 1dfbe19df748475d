"""The example of clients/js/README.md, run in a project of somebody else's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.js_package import SOURCE
from tests.support.server import Usher, address
from tests.support.tools import need

README = (SOURCE / "README.md").read_text("utf-8")
[EXAMPLE] = re.findall(r"^```js\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def run(command: Sequence[str | Path], app: Path, program: str) -> tuple[int, str, str]:
    """A program in a project. Returns its status, stdout and stderr."""
    (app / "program.mjs").write_text(program)
    done = subprocess.run(
        [*command, app / "program.mjs"],
        cwd=app,
        env={"PATH": os.environ["PATH"], "NODE_NO_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def node(*flags: str) -> list[str | Path]:
    return [need("the package of clients/js needs it (apt-get install nodejs)", "node"), *flags]


def the_readme_prints(server: Usher, command: Sequence[str | Path], app: Path) -> None:
    """The example of the README does what the README says."""
    assert EXAMPLE.count("http://127.0.0.1:8888") == 1
    program = EXAMPLE.replace("http://127.0.0.1:8888", server.url)
    program = re.sub(r"`ada-.*?`", f"'{address()}'", program)
    status, out, err = run(command, app, program)
    assert (status, err) == (0, "")
    promised = re.search(r"It prints (.*?)\.$", README, re.DOTALL | re.MULTILINE)
    assert promised is not None
    assert out.splitlines() == re.findall(r"`([^`]+)`", promised[1])
