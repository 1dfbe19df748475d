"""The client for pages, as one file: the modules of static/usher*.js put together at the start.

The modules are written for it: imports of each other, one statement each, and no name at the top of
a file that another has. tests/http/test_client_file.py holds them to that; there is no bundler.
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
    """The file. `etag`: a strong one, quoted (RFC 9110 section 8.8.3). `version`: the package's."""

    content: bytes
    etag: str
    version: str


def client_file(folder: Path) -> ClientFile:
    """Put the modules together.

    Args:
        folder: where they are.

    Raises:
        ValueError: they cannot be; graphlib.CycleError where they import each other in a circle.
    """
    texts = _modules(folder)
    # Lists, as sets have another order in each process: every node has to give one ETag.
    needs = {name: [other for _, other in _FROM.findall(text)] for name, text in texts.items()}
    order = graphlib.TopologicalSorter(needs).static_order()
    public = sorted(
        name.strip()
        for names, _ in _FROM.findall(texts[ENTRY])
        for name in names.split(",")
        if name.strip()
    )
    parts = [_bare(texts[name]) for name in order]
    whole = "\n".join([*parts, f"export {{ {', '.join(public)} }};\n"])
    version = _VERSION.search("\n".join(texts.values()))
    if version is None:
        raise ValueError("static/usher*.js: no VERSION")
    content = whole.encode()
    return ClientFile(content, f'"{hashlib.sha256(content).hexdigest()}"', version[1])


def _modules(folder: Path) -> dict[str, str]:
    """What the entry imports, and what that imports, by name."""
    found: dict[str, str] = {}
    wanted = [ENTRY]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = (folder / name).read_text("utf-8")
            wanted += [other for _, other in _FROM.findall(found[name])]
    return found


def _bare(text: str) -> str:
    """A module without its imports and exports."""
    return _EXPORT.sub("", _NAMES_AGAIN.sub("", _FROM.sub("", text)))
