"""/client/usher.js: one module for pages of allowed origins, put together from static/usher*.js."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.client_file import client_file
from tests.support.checks import plain_refusal
from tests.support.node import run_script
from tests.support.server import ROOT, Answer, Client, Usher, usher
from tests.support.tools import need

STATIC = ROOT / "static"
PATH = "/client/usher.js"
ALLOWED = "https://app.example"
PUBLIC = [
    "MAX_FRAME_BYTES", "PROTOCOL", "RETRY", "Room", "Usher", "UsherClient", "UsherError", "VERSION",
    "createUsher",
]  # fmt: skip


@pytest.fixture(scope="module")
def installation() -> Iterator[Usher]:
    with usher("sqlite", ALLOWED_ORIGINS=ALLOWED) as running:
        yield running


def get(installation: Usher, query: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Client(installation).call("GET", PATH + query, headers=named)


def test_it_is_a_module_that_any_page_may_load(installation: Usher) -> None:
    answer = get(installation)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.text == client_file(STATIC).content


def test_allowed_origins_may_read_it_and_others_may_not(installation: Usher) -> None:
    for origin in (ALLOWED, installation.url):
        answer = get(installation, Origin=origin)
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Vary"] == "Origin"
    for origin in ("https://evil.example", "null", f"{ALLOWED}.evil.example"):
        answer = get(installation, Origin=origin)
        assert answer.headers["Access-Control-Allow-Origin"] is None
        assert answer.headers["Vary"] == "Origin"


def test_without_a_version_it_is_asked_for_again_by_its_tag(installation: Usher) -> None:
    first = get(installation)
    assert first.headers["Cache-Control"] == "no-cache"
    again = get(installation, Origin=ALLOWED, If_None_Match=first.headers["ETag"])
    assert (again.status, again.text) == (304, b"")
    assert again.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert get(installation, If_None_Match='"another"').status == 200


def test_with_its_version_it_is_kept_for_a_year(installation: Usher) -> None:
    version = client_file(STATIC).version
    kept = get(installation, f"?v={version}").headers["Cache-Control"]
    assert kept == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("version", ["", "0.9.0", "1.1.0 ", "%00", "x" * 5000])
def test_another_version_does_not_stick_to_this_one(installation: Usher, version: str) -> None:
    query = f"?v={version}".replace(" ", "%20a")
    assert get(installation, query).headers["Cache-Control"] == "no-cache"


def test_it_can_only_be_read(installation: Usher) -> None:
    for method in ("POST", "PUT", "DELETE"):
        plain_refusal(Client(installation).call(method, PATH), 405, "method_not_allowed")
    head = Client(installation).call("HEAD", PATH)
    assert (head.status, head.text) == (200, b"")
    assert head.headers["ETag"] == get(installation).headers["ETag"]


# ---- how it is put together ------------------------------------------------------------------


def test_node_loads_it_and_finds_what_it_exports(tmp_path: Path) -> None:
    file = tmp_path / "usher.mjs"
    file.write_bytes(client_file(STATIC).content)
    script = f"console.log(Object.keys(await import({file.as_uri()!r})).join())"
    assert run_script(script) == (0, ",".join(PUBLIC) + "\n", "")


def test_no_name_at_the_top_of_a_module_is_anothers() -> None:
    top = re.compile(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
    names = Counter(
        name for path in STATIC.glob("usher*.js") for name in top.findall(path.read_text("utf-8"))
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_every_module_of_the_client_is_in_it() -> None:
    content = client_file(STATIC).content.decode()
    for path in STATIC.glob("usher*.js"):
        classes = re.findall(r"^export (?:class|function) (\w+)", path.read_text(), re.MULTILINE)
        for name in classes:
            assert re.search(rf"^(?:class|function) {name}\b", content, re.MULTILINE), path.name
    assert "import {" not in re.sub(r"/\*.*?\*/", "", content, flags=re.DOTALL)


def test_modules_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "usher-index.js").write_text("export { a } from './usher-a.js';\n")
    (tmp_path / "usher-a.js").write_text("import { b } from './usher-b.js';\nexport const a = b;\n")
    (tmp_path / "usher-b.js").write_text("import { a } from './usher-a.js';\nexport const b = a;\n")
    with pytest.raises(ValueError, match="cycle"):
        client_file(tmp_path)


def test_the_sources_are_modules_that_node_takes() -> None:
    node = need("the tests of usher.js need it (apt-get install nodejs)", "node")
    file = STATIC / "usher-index.js"
    subprocess.run([node, "--check", file], check=True, timeout=60)
