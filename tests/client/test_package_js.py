"""clients/js as a package: packed, installed elsewhere, typed, and executed from there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.contract import Driver, ScriptedRun, behaviours
from tests.support.js_package import SOURCE, Packed, npm, packed, type_check
from tests.support.js_readme import README, node, run, the_readme_prints
from tests.support.node import node_command
from tests.support.scripted import scripted_usher
from tests.support.server import ROOT, Usher, usher

pytestmark = pytest.mark.timeout(240)
MODULES = sorted(path.name for path in (ROOT / "static").glob("usher*.js"))
WITHOUT_WEBSOCKET = "--no-experimental-websocket"
NODE_22 = "node@22"


@pytest.fixture(scope="module")
def package() -> Iterator[Packed]:
    with packed() as made:
        yield made


@pytest.fixture(scope="module")
def installation() -> Iterator[Usher]:
    with usher("sqlite") as running:
        yield running


@pytest.fixture(scope="module")
def app(package: Packed) -> Path:
    return package.app("app")


@pytest.fixture(scope="module")
def app_with_ws(package: Packed) -> Path:
    return package.app("app-with-ws", "ws")


# ---- what is in it -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_package_has_the_modules_that_pages_get_and_their_types(package: Packed) -> None:
    with tarfile.open(package.tarball) as tar:
        names = {name.removeprefix("package/") for name in tar.getnames()}
        types = {f"dist/{Path(name).stem}.d.ts" for name in [*MODULES, "node.js"]}
        scripts = {f"dist/{name}" for name in [*MODULES, "node.js"]}
        assert names == {"package.json", "README.md"} | types | scripts
        for name in MODULES:
            file = tar.extractfile(f"package/dist/{name}")
            assert file is not None
            assert file.read() == (ROOT / "static" / name).read_bytes()


def test_the_version_is_one(package: Packed) -> None:
    version = json.loads((SOURCE / "package.json").read_text())["version"]
    assert f"VERSION = '{version}'" in (ROOT / "static" / "usher-app.js").read_text()
    assert package.tarball.name == f"usher-client-{version}.tgz"
    assert package.tarball.name in README
    assert f"?v={version}" in README


@pytest.mark.slow
def test_a_strict_program_in_typescript_uses_every_call(package: Packed, app: Path) -> None:
    assert type_check(package, app, Path(__file__).parent / "every_call.ts") == ""


def test_every_call_of_the_readme_is_typed() -> None:
    program = (Path(__file__).parent / "every_call.ts").read_text()
    table = README.partition("## Calls")[2].partition("\n## ")[0]
    calls = set(re.findall(r"`?(\w+)\(", table))
    assert {"signIn", "signUp", "signInWith", "signOut", "fetch", "connect", "room"} <= calls
    assert [call for call in sorted(calls) if f"{call}(" not in program] == []


# ---- run from there ------------------------------------------------------------------------


def test_the_example_runs_in_node(installation: Usher, app: Path) -> None:
    the_readme_prints(installation, node_command(), app)


def test_without_a_websocket_the_peer_ws_is_accepted(
    installation: Usher, app_with_ws: Path
) -> None:
    the_readme_prints(installation, node(WITHOUT_WEBSOCKET), app_with_ws)


def test_without_a_websocket_and_without_ws_it_says_so_at_once(app: Path) -> None:
    program = """import { createUsher } from 'usher-client';
    try { createUsher({ url: 'http://127.0.0.1:9' }); } catch ({ name, code, message }) {
      console.log(name, code, message.includes('npm install ws'));
    }"""
    assert run(node(WITHOUT_WEBSOCKET), app, program) == (0, "UsherError misuse true\n", "")


def test_a_websocket_of_the_apps_own_is_accepted_before_all_others(app: Path) -> None:
    program = """import { createUsher } from 'usher-client';
    class Own { constructor(url) { console.log(url); } close() {} }
    const usher = createUsher(
      { url: 'http://127.0.0.1:9/below', WebSocket: Own, getToken: async () => 't' });
    usher.connect().catch(({ code }) => console.log(code));
    setTimeout(() => usher.close(), 50);"""
    status, out, err = run(node(WITHOUT_WEBSOCKET), app, program)
    assert (status, err) == (0, "")
    assert out.splitlines() == ["ws://127.0.0.1:9/below/ws", "closed_by_client"]


@pytest.mark.slow
def test_the_example_runs_in_node_22_with_nothing_else(
    installation: Usher, package: Packed
) -> None:
    app = package.app("app-22")
    npm("install", "--no-audit", "--no-fund", "--silent", NODE_22, cwd=app)
    program = app / "node_modules" / "node" / "bin" / "node"
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("v22.")
    the_readme_prints(installation, [program], app)


@pytest.mark.slow
def test_the_whole_contract_holds_with_ws(app_with_ws: Path) -> None:
    module = app_with_ws / "node_modules" / "usher-client" / "dist" / "node.js"
    script = ROOT / "tests" / "support" / "contract_driver.mjs"
    command = [*node(WITHOUT_WEBSOCKET), script, module.as_uri()]
    environment = os.environ | {"NODE_NO_WARNINGS": "1"}
    with closing(Driver(command, environment)) as driver:
        for item in behaviours("scripted"):
            with scripted_usher() as server:
                run = ScriptedRun(driver, server, item)
                try:
                    run.start(item["start"])
                    run.steps(item["steps"])
                except AssertionError as error:
                    raise AssertionError(f"{item['id']}: {error}") from error
                run.client.do("close")
