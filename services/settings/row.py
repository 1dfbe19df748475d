"""One row of the table of settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One row.

    Attributes:
        name: without the prefix.
        read: text to value; raises BadValue.
        default: as it would be written, or None where another part steps in.
        meaning: for --help and the docs, with the unit.
        shown_default: the default in words, where `default` says too little.
        secret: whether its text must not be shown.
        is_list: whether an empty text is a value.
        keeps_space: whether white space at the ends of its parts counts.
    """

    name: str
    read: Callable[[str], T]
    default: str | None
    meaning: str
    shown_default: str = ""
    secret: bool = False
    is_list: bool = False
    keeps_space: bool = False

    @property
    def flag(self) -> str:
        """As on the command line: `--data-dir`."""
        return "--" + self.name.lower().replace("_", "-")

    @property
    def file_name(self) -> str:
        """The setting that names a file with its value, for secrets: `JWT_SECRETS_FILE`."""
        return self.name + "_FILE"

    @property
    def file_flag(self) -> str:
        """The same on the command line: `--jwt-secrets-file`."""
        return self.flag + "-file"
