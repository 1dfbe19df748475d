"""One row of the table of settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class ShownSetting(msgspec.Struct, frozen=True):
    """A setting as it was read, for administrators.

    Attributes:
        name: of the variable, with `USHER_`.
        value: the text of its value; null for a secret, and where it is not set.
        is_set: whether it has a value, given or by default.
        source: where the value came from: a variable, a flag or a file by its name, or `default`.
        meaning: as in --help.
    """

    name: str
    value: str | None
    secret: bool
    is_set: bool
    source: str
    meaning: str


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One row of the table: a setting.

    Attributes:
        name: the name without the prefix `USHER_`.
        read: converts the text to a value; raises BadValue.
        default: the text of the default, or None if it is not a constant or there is none.
        meaning: the description for --help and the docs, with the unit.
        shown_default: the default in --help and the docs, if it differs from `default`.
        secret: whether the value must not be shown.
        is_list: whether an empty text is accepted, as the empty list.
        keeps_space: whether white space around the items of a list is part of them.
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
        """The command-line flag: `--data-dir`."""
        return "--" + self.name.lower().replace("_", "-")

    @property
    def file_name(self) -> str:
        """For secrets, the setting that names a file with the value: `JWT_SECRETS_FILE`."""
        return self.name + "_FILE"

    @property
    def file_flag(self) -> str:
        """The same on the command line: `--jwt-secrets-file`."""
        return self.flag + "-file"
