"""The commands of server.py: names, arguments, and help."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from services.errors import SettingError


class Command(msgspec.Struct, frozen=True):
    """One command.

    Attributes:
        name: the first word behind `server.py`.
        argument: what it takes behind its name, or empty.
        help: for --help.
        repeated: a flag of its own that it takes once or more, without its dashes, or empty.
        takes: what stands behind that flag.
    """

    name: str
    argument: str
    help: str
    repeated: str = ""
    takes: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """Its name, and what it takes."""
        flag = f"--{self.repeated} {'|'.join(self.takes)} …" if self.repeated else ""
        return " ".join(part for part in (self.name, self.argument, flag) if part)


MAKE_ADMIN = Command("make-admin", "EMAIL", "make an account an administrator")
RESET_PASSWORD = Command(
    "reset-password",
    "EMAIL",
    "make a link, shown this once, by which the owner of an account sets a new password within 30 "
    "minutes; that ends all of its login sessions, and until then nothing changes",
)
LIST_USERS = Command("list-users", "", "list the accounts: id, e-mail address, name, role")
ROTATE_JWT = Command(
    "rotate-jwt", "", "make a new secret for access tokens in DATA_DIR; nobody is signed out"
)
ROTATE_KEYS = Command(
    "rotate-keys",
    "",
    "encrypt anew what providers gave, with the newest of ENCRYPTION_KEYS; a new one in DATA_DIR; "
    "and a new key pair for app tokens",
)
CREATE_API_KEY = Command(
    "create-api-key",
    "NAME",
    "make a key for a backend, shown this once; it has no maker, and does not die with anybody's "
    "rights",
    "scope",
    ("publish", "disconnect", "read", "introspect", "channels", "users"),
)
COMMANDS = (MAKE_ADMIN, RESET_PASSWORD, LIST_USERS, ROTATE_JWT, ROTATE_KEYS, CREATE_API_KEY)
NAMES = frozenset(command.name for command in COMMANDS)
MORE = """
Each takes the settings of the server, as variables or flags; it may be running or stopped.
--json: answer with one JSON object on stdout."""


class Call(msgspec.Struct, frozen=True):
    """A command as it was given. `settings`: flags of settings, for `settings.load`. `repeated`:
    what stood behind the command's own flag."""

    command: Command
    argument: str
    json: bool
    settings: list[str]
    repeated: tuple[str, ...] = ()


def overview() -> str:
    """The commands, for --help of the server."""
    return "; ".join(f"{c.usage}: {c.help}" for c in COMMANDS)


def parse(argv: Sequence[str]) -> Call | None:
    """The command that a command line begins with; None where it begins with none.

    Raises:
        SettingError: it does not take that.
        SystemExit: after --help, with status 0.
    """
    command = next((c for c in COMMANDS if argv[:1] == [c.name]), None)
    if command is None:
        return None
    rest = list(argv[1:])
    if {"-h", "--help"} & set(rest):
        usage = f"usage: server.py {command.usage} [--json] [--SETTING VALUE …]"
        sys.stdout.write(f"{usage}\n\n{command.help}\n{MORE}\n")
        raise SystemExit(0)
    as_json = "--json" in rest
    rest = [word for word in rest if word != "--json"]
    argument = ""
    if command.argument:
        if not rest or rest[0].startswith("--"):
            takes = f"{command.argument} as the next word"
            raise SettingError(command.name, "nothing", takes)
        argument = rest.pop(0)
    return Call(command, argument, as_json, rest, _take_repeated(command, rest))


def _take_repeated(command: Command, rest: list[str]) -> tuple[str, ...]:
    """Take the command's own flag out of the words, with what stands behind it."""
    flag, found = f"--{command.repeated}", []
    while command.repeated and flag in rest:
        place = rest.index(flag)
        given = rest[place + 1 : place + 2]
        if not given or given[0] not in command.takes:
            got = repr(given[0]) if given else "nothing"
            raise SettingError(flag, got, f"one of {', '.join(command.takes)}")
        found.append(given[0])
        del rest[place : place + 2]
    if command.repeated and not found:
        raise SettingError(flag, "nothing", f"one of {', '.join(command.takes)}, once or more")
    return tuple(found)
