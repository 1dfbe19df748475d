"""handlers/bundles.py: modules put together, run in Node as a browser would run them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from handlers.bundles import BASE, PAGES, bundles
from tests.support.server import ROOT
from tests.support.tools import need

STATIC = ROOT / "static"
MODULES = {
    path.relative_to(STATIC).as_posix(): path.read_text("utf-8")
    for path in sorted(STATIC.rglob("*.js"))
}
SMALL = {
    "app.js": "import { up as add } from './base.js';\nexport const app = add(1);\n",
    "base.js": (
        "import { one } from './one.js';\nlet count = one;\n"
        "export function up(by) { count += by; return count; }\nexport { one };\n"
    ),
    "one.js": "const hidden = 1;\nexport const one = hidden;\n",
    "area/area.js": (
        "import { up } from '../base.js';\nimport { twice } from './part.js';\n"
        "export const mount = () => twice(up(1));\n"
        "export const more = () => import('./more.js');\n"
    ),
    "area/part.js": "let calls = 0;\nexport const twice = (n) => 2 * n + 100 * calls++;\n",
    "area/more.js": (
        "import { one } from '../one.js';\nimport { twice } from './part.js';\n"
        "export const late = () => twice(one);\n"
    ),
    "usher-index.js": "export { one } from './one.js';\n",
}


def run(folder: Path, script: str) -> str:
    node = need("modules are run in it", "node")
    (folder / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        [node, "--input-type=module", "-e", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_bundles_do_what_the_modules_do_and_each_module_is_there_once(tmp_path: Path) -> None:
    script = """
      const { app } = await import('./app.js');
      const { mount, more } = await import('./area/area.js');
      const { late } = await more();
      const { up, one } = await import('./base.js');
      const { twice } = await import('./area/part.js');
      console.log(app, mount(), late(), up(1), one, twice(0));
    """
    said = []
    for name, files in (("plain", SMALL), ("built", bundles(SMALL))):
        write(tmp_path / name, files)
        said.append(run(tmp_path / name, script))
    assert said == ["2 6 102 4 1 200"] * 2


def test_an_area_takes_from_the_page_what_the_page_has() -> None:
    built = bundles(SMALL)
    assert re.findall("from '(.*)'", built["app.js"]) == []
    assert re.findall("from '(.*)'", built["area/area.js"]) == ["./part.js", "../app.js"]
    assert built["usher-index.js"] == SMALL["usher-index.js"]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_each_page_of_ours_is_one_file(name: str) -> None:
    assert re.findall("^import ", bundles(MODULES)[name], re.MULTILINE) == []


def test_our_areas_load_nothing_twice_and_find_each_name_that_they_take(tmp_path: Path) -> None:
    built = bundles(MODULES)
    for name in ("account", "rooms", "console", "admin"):
        taken = re.findall("^import .* from '(.*)';$", built[f"{name}/{name}.js"], re.MULTILINE)
        assert f"../{BASE}" in taken, name
        assert [path for path in taken if path.startswith("../") and path != f"../{BASE}"] == []
    write(tmp_path, built)
    loads = ", ".join(f"import('./{name}').catch(tell)" for name in built if "/" in name)
    # There is no page for them here; but a name that is not there is a SyntaxError before that.
    tell = "const tell = (e) => { if (e instanceof SyntaxError) console.log(e.message); };"
    assert run(tmp_path, f"{tell}\nawait Promise.all([{loads}]);") == ""


@pytest.mark.parametrize(
    "text",
    [
        "import './one.js';\n",
        "import * as all from './one.js';\n",
        "import it from './one.js';\n",
        "export * from './one.js';\n",
        "export { one } from './one.js';\n",
    ],
)
def test_a_module_that_cannot_be_put_together_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"static/base\.js: .* cannot be put into a bundle"):
        bundles({**SMALL, "base.js": text + "export const up = 1;\n"})


def test_what_a_module_loads_lies_beside_its_bundle() -> None:
    away = {
        **SMALL,
        "app.js": "import { away } from './area/part.js';\n",
        "area/part.js": "export const away = () => import('./more.js');\n",
        "area/area.js": "",
        "area/more.js": "",
    }
    with pytest.raises(ValueError, match=r"static/area/part\.js: .* another folder than app\.js"):
        bundles(away)
