"""Hatchling's hook for the wheel of Usher: its dependencies are the lines of requirements.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsHook(MetadataHookInterface):
    """Fills `dependencies`, so that they are written in one place."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "requirements.txt").read_text("utf-8")
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        metadata["dependencies"] = [line for line in lines if line]
