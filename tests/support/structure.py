"""What the source says of its structure: each check goes from source to findings."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
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


def sample(**modules: str) -> Sources:
    return {name.replace("__", "."): ast.parse(text) for name, text in modules.items()}
