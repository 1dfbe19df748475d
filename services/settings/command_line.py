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
    """

    name: str
    argument: str
    help: str


MAKE_ADMIN = Command("make-admin", "EMAIL", "make an account an administrator")
RESET_PASSWORD = Command(
    "reset-password",
    "EMAIL",
    "give an account a new password, shown this once, and end all of its login sessions",
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
COMMANDS = (MAKE_ADMIN, RESET_PASSWORD, LIST_USERS, ROTATE_JWT, ROTATE_KEYS)
NAMES = frozenset(command.name for command in COMMANDS)
MORE = """
Each takes the settings of the server, as variables or flags; it may be running or stopped.
--json: answer with one JSON object on stdout."""


class Call(msgspec.Struct, frozen=True):
    """A command as it was given. `settings`: flags of settings, for `settings.load`."""

    command: Command
    argument: str
    json: bool
    settings: list[str]


def overview() -> str:
    """The commands, for --help of the server."""
    return "; ".join(f"{c.name} {c.argument}".strip() + f": {c.help}" for c in COMMANDS)


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
        usage = f"usage: server.py {command.name} {command.argument}".rstrip()
        sys.stdout.write(f"{usage} [--json] [--SETTING VALUE …]\n\n{command.help}\n{MORE}\n")
        raise SystemExit(0)
    as_json = "--json" in rest
    rest = [word for word in rest if word != "--json"]
    argument = ""
    if command.argument:
        if not rest or rest[0].startswith("--"):
            takes = f"{command.argument} as the next word"
            raise SettingError(command.name, "nothing", takes)
        argument = rest.pop(0)
    return Call(command, argument, as_json, rest)
