"""The modules of the page, put together at the start, so that a page is one request and not twenty.

There is no bundler. Each module of static/ becomes a function that gives its exports, in the order
of the imports, and nothing in it is renamed:

    const dom_js = (() => { …; return { make, setText }; })();
    const app_js = (() => { const { make } = dom_js; … })();

A module that `app.js` needs is not loaded a second time by an area: what an area imports of it
comes from the bundle of `app.js`, which has it already. What else an area needs lies in its own
bundle. tests/http/test_bundles.py says which modules can be put together.
"""

from __future__ import annotations

import graphlib
import posixpath
import re
from collections.abc import Mapping

BASE = "app.js"
PAGES = frozenset((BASE, "sign-in.js", "set-password.js", "mail-pages.js"))
"""Modules that a page loads. Whatever else lies beside them and is not in `app.js` stays as it is:
the client for other pages has a file of its own (client_file.py)."""
_IMPORT = re.compile(r"^import \{([^}]*)\} from '(\.[^']*\.js)';\n", re.MULTILINE)
_OTHER_IMPORT = re.compile(
    r"^(?:import\b(?! ?\()|export \*|export \{[^}]*\} from).*$", re.MULTILINE
)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)
_NAMES = re.compile(r"^export \{([^}]*)\};\n", re.MULTILINE)
_RELATIVE = re.compile(r"\bimport\(|\bimport\.meta\b")


def bundles(modules: Mapping[str, str]) -> dict[str, str]:
    """What is served for each module.

    Args:
        modules: the text of each by its path, `rooms/rooms.js` say.

    Raises:
        ValueError: a module cannot be put together with others. graphlib.CycleError: imports are
            cyclic.
    """
    needs = {name: _needs(name, text) for name, text in modules.items()}
    shared = _reached([BASE], needs, set()) if BASE in modules else []
    roots = _roots(needs, set(shared))
    served = {}
    owners: dict[str, str] = {}
    for root in sorted(roots):
        stands_alone = root in PAGES
        outside = set() if stands_alone else (set(shared) | roots) - {root}
        parts = _reached([root], needs, outside)
        of_base = set() if stands_alone else set(shared)
        served[root] = _bundle(root, parts, modules, needs, of_base)
        if root == BASE or not stands_alone:
            owners |= dict.fromkeys(parts, root)
    for name in modules:
        if name not in served:
            owner = owners.get(name)
            served[name] = modules[name] if owner is None else _stub(name, owner, modules[name])
    return served


def _needs(name: str, text: str) -> dict[str, str]:
    """The names that a module imports, by the path of where from."""
    folder = posixpath.dirname(name)
    return {
        posixpath.normpath(posixpath.join(folder, path)): names
        for names, path in _IMPORT.findall(text)
    }


def _reached(
    names: list[str], needs: Mapping[str, Mapping[str, str]], outside: set[str]
) -> list[str]:
    """Modules and what they need, each after all that it needs; without those outside."""
    graph: dict[str, list[str]] = {}
    wanted = list(names)
    while wanted:
        name = wanted.pop()
        if name not in graph:
            graph[name] = [other for other in needs[name] if other not in outside]
            wanted += graph[name]
    return list(graphlib.TopologicalSorter(graph).static_order())


def _roots(needs: Mapping[str, Mapping[str, str]], shared: set[str]) -> set[str]:
    """Modules that get a bundle: those that no other imports, and those that two bundles need."""
    imported = {other for others in needs.values() for other in others}
    alone = {name for name in needs if "/" in name and name not in imported}
    roots = alone | (PAGES & set(needs))
    while True:
        owners: dict[str, set[str]] = {}
        for root in roots:
            if "/" in root:
                for part in _reached([root], needs, (shared | roots) - {root}):
                    owners.setdefault(part, set()).add(root)
        more = {name for name, by in owners.items() if len(by) > 1} - roots
        if not more:
            return roots
        roots |= more


def _bundle(
    root: str,
    parts: list[str],
    modules: Mapping[str, str],
    needs: Mapping[str, Mapping[str, str]],
    of_base: set[str],
) -> str:
    folder = posixpath.dirname(root)
    outside = {other for part in parts for other in needs[part]} - set(parts)
    lines = [
        f"import * as {_variable(other)} from '{_path(other, folder)}';\n"
        for other in sorted(outside - of_base)
    ]
    if taken := ", ".join(map(_variable, sorted(outside & of_base))):
        lines.append(f"import {{ {taken} }} from '{_path(BASE, folder)}';\n")
    for part in parts:
        if posixpath.dirname(part) != folder and _RELATIVE.search(modules[part]):
            raise ValueError(f"static/{part}: what it loads lies in another folder than {root}")
        lines.append(_as_function(part, modules[part]))
    if names := _exports(modules[root]):
        lines.append(f"export const {{ {', '.join(names)} }} = {_variable(root)};\n")
    lines.append(f"export {{ {', '.join(map(_variable, parts))} }};\n")
    return "".join(lines)


def _path(other: str, folder: str) -> str:
    """Where a module is, seen from a folder."""
    path = posixpath.relpath(other, folder or ".")
    return path if path.startswith(".") else f"./{path}"


def _as_function(name: str, text: str) -> str:
    """A module as a function that is called at once and gives its exports."""
    folder = posixpath.dirname(name)

    def take(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[2]))
        names = ", ".join(_renamed(part) for part in match[1].split(",") if part.strip())
        return f"const {{ {names} }} = {_variable(path)};\n"

    body = _IMPORT.sub(take, text)
    if other := _OTHER_IMPORT.search(body):
        raise ValueError(f"static/{name}: {other[0]!r} cannot be put into a bundle")
    body = _NAMES.sub("", _EXPORT.sub("", body))
    given = ", ".join(_exports(text))
    return f"const {_variable(name)} = (() => {{\n{body}return {{ {given} }};\n}})();\n"


def _exports(text: str) -> list[str]:
    listed = [name.strip() for names in _NAMES.findall(text) for name in names.split(",")]
    return [*_EXPORT.findall(text), *(name for name in listed if name)]


def _renamed(part: str) -> str:
    """`a as b` of an import, as destructuring has it."""
    name, _, alias = part.strip().partition(" as ")
    return f"{name}: {alias}" if alias else name


def _stub(name: str, owner: str, text: str) -> str:
    """A module that lies in a bundle, for who imports it by itself."""
    path = _path(owner, posixpath.dirname(name))
    names = ", ".join(_exports(text))
    took = f"import {{ {_variable(name)} }} from '{path}';\n"
    return f"{took}export const {{ {names} }} = {_variable(name)};\n"


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name)
