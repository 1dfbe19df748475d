"""The client for pages, as one file: the modules of static/usher*.js are concatenated at the start.

The modules are written for that: each imports others with one statement, and no two of them have
the same top-level name. tests/http/test_client_file.py checks it. There is no bundler.
"""

from __future__ import annotations

import graphlib
import hashlib
import re
from pathlib import Path

import msgspec

ENTRY = "usher-index.js"
_FROM = re.compile(r"^(?:import|export) \{([^}]*)\} from '\./([\w-]+\.js)';\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function |class |const )", re.MULTILINE)
_NAMES_AGAIN = re.compile(r"^export \{[^}]*\};\n", re.MULTILINE)
_VERSION = re.compile(r"^export const VERSION = '([^']+)';$", re.MULTILINE)


class ClientFile(msgspec.Struct, frozen=True):
    """The file. `etag`: strong and quoted (RFC 9110 section 8.8.3). `version`: of the package."""

    content: bytes
    etag: str
    version: str


def client_file(folder: Path) -> ClientFile:
    """Concatenate the modules in the order of their imports.

    Args:
        folder: the folder of the modules.

    Raises:
        ValueError: a module does not follow the rules. graphlib.CycleError: imports are cyclic.
    """
    texts = _modules(folder)
    # Lists, because the order of sets differs between processes, and all nodes need the same ETag.
    needs = {name: [other for _, other in _FROM.findall(text)] for name, text in texts.items()}
    order = graphlib.TopologicalSorter(needs).static_order()
    public = sorted(
        name.strip()
        for names, _ in _FROM.findall(texts[ENTRY])
        for name in names.split(",")
        if name.strip()
    )
    parts = [_without_module_syntax(texts[name]) for name in order]
    whole = "\n".join([*parts, f"export {{ {', '.join(public)} }};\n"])
    version = _VERSION.search("\n".join(texts.values()))
    if version is None:
        raise ValueError("static/usher*.js: no VERSION")
    content = whole.encode()
    return ClientFile(content, f'"{hashlib.sha256(content).hexdigest()}"', version[1])


def _modules(folder: Path) -> dict[str, str]:
    """The entry module and everything that it imports, by name."""
    found: dict[str, str] = {}
    wanted = [ENTRY]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = (folder / name).read_text("utf-8")
            wanted += [other for _, other in _FROM.findall(found[name])]
    return found


def _without_module_syntax(text: str) -> str:
    """A module without its imports and exports."""
    return _EXPORT.sub("", _NAMES_AGAIN.sub("", _FROM.sub("", text)))
