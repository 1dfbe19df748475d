"""The structure of the code, checked in the source: layers, imports, module-level state.

Each check is a plain function from source to findings, so that the second half of this file
can show it a bad sample and see it fail.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
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
LAYERS = ("server", "handlers", "services", "models")  # each may import those to its right

# Calls whose result does not change, so that a module may hold it.
CONSTANT_MAKERS = frozenset(
    {
        "Decoder", "Encoder", "MappingProxyType", "NewType", "ParamSpec", "Path",
        "RateLimitItemPerDay", "RateLimitItemPerHour", "RateLimitItemPerMinute", "Struct",
        "TypeVar", "TypeVarTuple", "bytes", "cast", "compile", "encode", "float", "format",
        "frozenset", "getLogger", "get_args", "getattr", "int", "ip_network", "join", "len",
        "maketrans", "max", "min", "namedtuple", "object", "range", "str", "timedelta", "tuple",
    }
)  # fmt: skip
MUTABLE_MAKERS = frozenset(
    {"Counter", "OrderedDict", "WeakSet", "bytearray", "defaultdict", "deque", "list", "set"}
)
MUTATORS = frozenset(
    {
        "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
        "popleft", "remove", "setdefault", "update",
    }
)  # fmt: skip
FROZEN_BASES = frozenset({"NamedTuple", "Enum", "IntEnum", "IntFlag", "Flag"})

Sources = dict[str, ast.Module]


@functools.cache
def sources() -> Sources:
    """Every module of the server by its dotted name; tests and benchmarks are users of it."""
    paths = [path for layer in LAYERS[1:] for path in (ROOT / layer).rglob("*.py")]
    paths += ROOT.glob("server.py")
    return {module_name(path): ast.parse(path.read_text("utf-8")) for path in paths}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import; for `from a import b` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


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


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def upward_imports(found: Sources) -> list[str]:
    findings = []
    for module, tree in found.items():
        rank = LAYERS.index(module.split(".")[0])
        above = (*LAYERS[:rank], "tests", "benchmarks")
        findings += [
            f"{module} imports {name}"
            for name in imports(tree)
            if any(within(name, layer) for layer in above) or name.startswith(".")
        ]
    return findings


def cycle(found: Sources) -> list[str]:
    graph = {
        module: {name for name in imports(tree) if name in found and name != module}
        for module, tree in found.items()
    }
    # `from services import errors` names the package too, which imports nothing itself.
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def hidden_imports(found: Sources) -> list[str]:
    return [
        f"{module}:{node.lineno} imports inside a function"
        for module, tree in found.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"})
    ]


def imports_of(found: Sources, layer: str, banned: str) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, tree in found.items()
        if within(module, layer)
        for name in imports(tree)
        if within(name, banned)
    ]


def called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Subscript):  # Setting[int](…)
        function = function.value
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else "?"


def is_frozen(node: ast.ClassDef) -> bool:
    """A NamedTuple, an Enum, or a struct or dataclass with `frozen=True`."""
    keywords = list(node.keywords)
    for decorator in node.decorator_list:
        keywords += decorator.keywords if isinstance(decorator, ast.Call) else []
    frozen = any(
        word.arg == "frozen" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in keywords
    )
    bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    return frozen or bool(bases & FROZEN_BASES)


def frozen_classes(found: Sources) -> frozenset[str]:
    return frozenset(
        node.name
        for tree in found.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and is_frozen(node)
    )


def top_level(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names that a module binds to a value when it is imported."""
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            pending += [
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
            ]
        elif isinstance(node, ast.Assign):
            yield from ((ast.unparse(target), node.value) for target in node.targets)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.target), node.value


def is_state(name: str, value: ast.expr, makers: frozenset[str]) -> bool:
    """Whether a module-level value is, or may become, the state of a running program."""
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        # A table is a constant when it is written as one: named so, and not filled later.
        empty = not getattr(value, "keys", getattr(value, "elts", [1]))
        return not name.isidentifier() or not is_constant_name(name) or empty
    if isinstance(value, ast.Call):
        maker = called(value)
        return maker in MUTABLE_MAKERS or maker not in makers
    return False


def is_constant_name(name: str) -> bool:
    return name.strip("_").isupper() or (name.startswith("__") and name.endswith("__"))


def module_state(found: Sources) -> list[str]:
    makers = CONSTANT_MAKERS | frozen_classes(found)
    return [
        f"{module}: {name} = {ast.unparse(value)[:60]}"
        for module, tree in found.items()
        for name, value in top_level(tree)
        if is_state(name, value, makers)
    ]


def changed_module_state(found: Sources) -> list[str]:
    """`global`, and functions that write into a table of their module."""
    return [
        f"{module}:{node.lineno} {ast.unparse(node)[:60]}"
        for module, tree in found.items()
        for node in changes(tree, {name for name, _ in top_level(tree)})
    ]


def changes(tree: ast.Module, names: set[str]) -> Iterator[ast.expr | ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            if isinstance(node.value, ast.Name) and node.value.id in names:
                yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in names and node.func.attr in MUTATORS:
                yield node


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


def sample(**modules: str) -> Sources:
    return {name.replace("__", "."): ast.parse(text) for name, text in modules.items()}


@pytest.mark.parametrize(
    "text",
    [
        "import handlers.http.auth",
        "from handlers import auth",
        "from handlers.http.auth import x",
        "import server",
        "import tests.support",
        "if True:\n    import handlers",
        "def f():\n    from handlers import auth",
        "from . import errors",
    ],
)
def test_an_upward_import_is_found(text: str) -> None:
    assert upward_imports(sample(services__a=text))
    assert upward_imports(sample(services__a="import services.b, models.c, os, handlersome")) == []


def test_a_cycle_is_found() -> None:
    assert cycle(sample(services__a="from services import b", services__b="import services.a"))
    three = sample(a="import b", b="from c import x", c="from a import y")
    assert cycle(three)
    assert cycle(sample(a="import b", b="import c", c="import os")) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import os",
        "async def f():\n    from os import path",
        "class A:\n    def f(self):\n        if x:\n            import os",
        "def f():\n    importlib.import_module('os')",
    ],
)
def test_a_hidden_import_is_found(text: str) -> None:
    assert hidden_imports(sample(a=text))
    assert hidden_imports(sample(a="import os\nif x:\n    import re")) == []


def test_a_banned_import_is_found() -> None:
    for text in ("import tornado.web", "from tornado import web", "from tornado.web import x"):
        assert imports_of(sample(services__a=text), "services", "tornado.web")
    assert imports_of(sample(services__a="import tornado.webs"), "services", "tornado.web") == []


@pytest.mark.parametrize(
    "text",
    [
        "cache = {}",
        "CACHE = {}",
        "CACHE: dict[str, int] = {}",
        "LIST = []",
        "users = ['a']",
        "SEEN = set()",
        "QUEUE = deque()",
        "store = Store()",
        "STORE = services.store.Store()",
        "client = connect('x').client()",
        "STORE = make_store()",
        "a.b = [1]",
        "if x:\n    pool = Pool()",
        "try:\n    pool = Pool()\nexcept E:\n    pool = None",
        "class Store: pass\nSTORE = Store()",
        "@dataclass\nclass A: pass\nONE = A()",
        "class A(msgspec.Struct): pass\nONE = A()",
        "class A(msgspec.Struct, frozen=False): pass\nONE = A()",
    ],
)
def test_module_state_is_found(text: str) -> None:
    assert module_state(sample(a=text))


@pytest.mark.parametrize(
    "text",
    [
        "log = logging.getLogger('usher')",
        "_WORD = re.compile('a')",
        "T = TypeVar('T')",
        "LIMIT = 5 * 60",
        "CODES = {400: 'bad'}",
        "__all__ = ['a']",
        "NAMES = frozenset({'a'})",
        "class A(msgspec.Struct, frozen=True): pass\nONE = A()",
        "@dataclass(frozen=True)\nclass A: pass\nONE = A()",
        "class A(NamedTuple): pass\nROWS = (A(), A())",
        "def f():\n    cache = {}",
        "class A:\n    def __init__(self):\n        self.cache = {}",
    ],
)
def test_constants_are_no_state(text: str) -> None:
    assert module_state(sample(a=text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "X = 1\ndef f():\n    global X",
        "X = {1: 2}\ndef f():\n    X[3] = 4",
        "X = {1: 2}\ndef f():\n    del X[1]",
        "X = {1: 2}\ndef f():\n    X.update(a=1)",
        "X = [1]\ndef f():\n    X.append(2)",
        "X = [1]\nX[0] += 1",
    ],
)
def test_a_change_of_a_module_is_found(text: str) -> None:
    assert changed_module_state(sample(a=text))
    same = "X = {1: 2}\ndef f(y):\n    y[1] = X[1]\n    y.update(X)\n    return X.get(1)"
    assert changed_module_state(sample(a=same)) == []
