"""The programs that some providers need to be one, as their documentation has them. They run with
the provider's own packages, not with ours, so they are text here."""

from __future__ import annotations

from pathlib import Path


def server_text(name: str) -> str:
    """One of them, with places for what differs from run to run."""
    return (Path(__file__).parent / name).read_text("utf-8")
