"""The packages that the kit needs, checked before anything imports them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

NEEDED = {"httpx": 0, "websockets": 15, "PyJWT": 2, "cryptography": 0}
"""Name, and the first number of the lowest version."""


def lacking() -> list[str]:
    """What is to be installed, in the form that pip takes."""
    return [_requirement(name) for name in NEEDED if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        found = version(name)
    except PackageNotFoundError:
        return False
    return int(found.partition(".")[0]) >= NEEDED[name]


def _requirement(name: str) -> str:
    return f"'{name}>={NEEDED[name]}'" if NEEDED[name] else name
