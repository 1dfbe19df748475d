"""The structure of the code, checked in the source: layers, imports, module-level state."""

from __future__ import annotations

import ast
import graphlib
import re

import pytest

from tests.support.structure import (
    ROOT,
    Sources,
    changed_module_state,
    cycle,
    hidden_imports,
    imports,
    imports_of,
    module_state,
    sample,
    sources,
    upward_imports,
    within,
)

WINGS = {
    "services.event_loop": set(),
    "services.settings": {"redis"},
    "services.limits": {"redis"},
    "services.storage": set(),
    "services.audit": {"storage"},
    "services.webhooks": {"storage"},
    "services.overview": {"redis", "sockets", "storage"},
    "services.mail": {"limits", "settings", "storage"},
    "services.recovery": {"accounts", "limits", "registration", "sessions", "storage"},
    "services.redis": set(),
    "services.bus": {"redis"},
    "services.embedded": set(),
    "services.processes": set(),
    "services.websocket": set(),
    "services.grants": {"storage"},
    "services.sockets": {"grants", "redis", "websocket"},
    "services.sessions": {
        "bus",
        "grants",
        "limits",
        "redis",
        "sockets",
        "storage",
        "websocket",
    },
    "services.refresh": {"limits", "sessions", "storage"},
    "services.registration": {"limits", "sessions", "storage"},
    "services.accounts": {"limits", "registration", "sessions", "storage"},
    "services.rooms": {
        "accounts",
        "bus",
        "grants",
        "redis",
        "sessions",
        "sockets",
        "storage",
        "websocket",
    },
    "services.backends": {"rooms", "sessions", "storage"},
    "services.oauth": {"registration", "settings"},
    "services.commands": {
        "accounts",
        "backends",
        "providers",
        "registration",
        "sessions",
        "settings",
        "storage",
    },
    "services.factors": {"accounts", "limits", "sessions", "storage"},
    "services.step_up": {"accounts", "factors", "sessions", "storage"},
    "services.native": {"limits", "sessions", "storage"},
    "services.providers": {
        "accounts",
        "limits",
        "native",
        "oauth",
        "registration",
        "sessions",
        "settings",
        "storage",
    },
    "handlers.websocket": set(),
    "handlers.http": {"websocket"},
    "handlers.direct": {"http", "websocket"},
    "handlers.administration": set(),
    "handlers.account": {"http"},
    "handlers.page": {"http"},
    "handlers.reference": {"http", "websocket"},
}
"""Every wing, and the wings beside it that it may import. Docstrings and docs/architecture.md say
the same, and are held to this table."""
GROUND = {"services.event_loop"}
"""Packages that every wing may import, as the shared files beside the wings."""
ROOTS = {"services.composition"}
"""Packages that join the wings: they may import every wing, and no wing imports them."""
MAX_FILES = 16
"""In one wing. A reader should know each room at a glance."""


def wing_of(module: str) -> str | None:
    """The wing that a module is in; None for what stands beside the wings."""
    return next((wing for wing in WINGS if within(module, wing)), None)


def imports_between_wings(found: Sources) -> dict[str, set[str]]:
    """Which wings, and which roots, each wing imports."""
    between: dict[str, set[str]] = {}
    for module, tree in found.items():
        wing = wing_of(module)
        if wing is None:
            continue
        layer = wing.partition(".")[0]
        for name in imports(tree):
            other = wing_of(name)
            parts = name.split(".")
            if other in GROUND:
                continue
            if other is not None and other != wing and within(other, layer):
                between.setdefault(wing, set()).add(other.rpartition(".")[2])
            elif layer == "services" and (root := ".".join(parts[:2])) in ROOTS:
                between.setdefault(wing, set()).add(root.rpartition(".")[2])
    return between


def said_imports(docstring: str) -> set[str]:
    """The wings that the docstring of a wing says it may import."""
    said = re.search(r"^May import: (.+?)\.$", docstring, re.MULTILINE | re.DOTALL)
    assert said is not None, docstring
    return set() if said[1] == "no other wing" else set(re.split(r",\s+", said[1]))


def test_the_source_is_found() -> None:
    found = sources()
    assert {"services.errors", "services.sessions.tokens", "models", "handlers"} <= set(found)


def test_imports_run_one_way() -> None:
    assert upward_imports(sources()) == []


def test_there_are_no_import_cycles() -> None:
    assert cycle(sources()) == []


def test_each_wing_imports_just_those_that_the_table_says() -> None:
    between = imports_between_wings(sources())
    assert {wing: between.get(wing, set()) for wing in WINGS} == WINGS


def test_there_are_no_circles_between_wings() -> None:
    graph = {
        wing: {f"{wing.partition('.')[0]}.{other}" for other in others}
        for wing, others in WINGS.items()
    }
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


def test_every_package_is_a_wing_of_the_table() -> None:
    packages = {
        f"{path.parent.parent.name}.{path.parent.name}"
        for layer in ("services", "handlers")
        for path in (ROOT / layer).glob("*/__init__.py")
    }
    assert packages == set(WINGS) | ROOTS


@pytest.mark.parametrize("wing", WINGS)
def test_the_docstring_of_a_wing_says_which_others_it_may_import(wing: str) -> None:
    docstring = ast.get_docstring(sources()[wing])
    assert docstring is not None
    assert said_imports(docstring) == WINGS[wing]
    assert "Begin with" in docstring or wing == "handlers.http"


def test_the_picture_shows_the_imports_of_the_table() -> None:
    picture = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    drawn = set(re.findall(r"^ +((?:services|handlers)\.\w+) --> (\S+)$", picture, re.MULTILINE))
    arrows = {
        (wing, f"{wing.partition('.')[0]}.{other}")
        for wing, others in WINGS.items()
        for other in others
    }
    assert drawn == arrows


def test_every_file_that_the_docs_name_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        named = re.findall(
            r"`((?:docs|handlers|models|services|static|tests)/[\w./-]+)`", page.read_text("utf-8")
        )
        missing = [path for path in named if not (ROOT / path).exists()]
        assert missing == [], page.name


def test_no_wing_is_too_large_to_be_known_at_a_glance() -> None:
    sizes = {wing: len(list((ROOT / wing.replace(".", "/")).glob("[!_]*.py"))) for wing in WINGS}
    assert {wing: size for wing, size in sizes.items() if size > MAX_FILES} == {}


def test_an_import_between_wings_is_found() -> None:
    found = sample(
        services__redis__a="from services.rooms import rooms",
        services__rooms__b="import services.composition.container\nfrom services.rooms import c",
        services__errors="from services.redis import store",
        services__grants__d="from services.event_loop.tasks import end_tasks",
    )
    assert imports_between_wings(found) == {
        "services.redis": {"rooms"},
        "services.rooms": {"composition"},
    }


def test_no_function_imports() -> None:
    assert hidden_imports(sources()) == []


def test_services_and_models_know_no_http_handlers() -> None:
    assert imports_of(sources(), "services", "tornado.web") == []
    assert imports_of(sources(), "services", "tornado.websocket") == []
    assert imports_of(sources(), "models", "tornado") == []


def test_only_the_server_reads_the_environment() -> None:
    # The embedded Redis hands PATH and the like on to its child; it reads no setting.
    allowed = {"server", "services.embedded.redis_server"}
    reads = [
        f"{module}:{node.lineno}"
        for module, tree in sources().items()
        if module not in allowed
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    ]
    assert reads == []


def test_modules_hold_no_state() -> None:
    assert module_state(sources()) == []


def test_no_function_changes_its_module() -> None:
    assert changed_module_state(sources()) == []
