"""The commands of server.py: their names, arguments and help texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from services.errors import SettingError


class Command(msgspec.Struct, frozen=True):
    """One command.

    Attributes:
        name: the first argument of `server.py`.
        argument: placeholder of its positional argument, or empty.
        help: the text for --help.
        repeated: name of a flag that may be given several times, without dashes, or empty.
        takes: the values that this flag accepts.
    """

    name: str
    argument: str
    help: str
    repeated: str = ""
    takes: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """The usage line: the name and its arguments."""
        flag = f"--{self.repeated} {'|'.join(self.takes)} …" if self.repeated else ""
        return " ".join(part for part in (self.name, self.argument, flag) if part)


MAKE_ADMIN = Command("make-admin", "EMAIL", "make an account an administrator")
RESET_PASSWORD = Command(
    "reset-password",
    "EMAIL",
    "create a link, shown only once, with which the owner of an account can set a new password "
    "within 30 minutes; setting it ends all login sessions of the account",
)
LIST_USERS = Command("list-users", "", "list the accounts: id, e-mail address, name, role")
ROTATE_JWT = Command(
    "rotate-jwt", "", "create a new secret for access tokens in DATA_DIR; nobody is signed out"
)
ROTATE_KEYS = Command(
    "rotate-keys",
    "",
    "re-encrypt the tokens of providers with the newest of ENCRYPTION_KEYS, or with a new key in "
    "DATA_DIR; also create a new key pair for app tokens",
)
CREATE_API_KEY = Command(
    "create-api-key",
    "NAME",
    "create an API key for a backend, shown only once; it belongs to no user, so it stays valid "
    "when an administrator loses the role",
    "scope",
    ("publish", "disconnect", "read", "introspect", "channels", "users"),
)
COMMANDS = (MAKE_ADMIN, RESET_PASSWORD, LIST_USERS, ROTATE_JWT, ROTATE_KEYS, CREATE_API_KEY)
NAMES = frozenset(command.name for command in COMMANDS)
EPILOG = """
Every command accepts the server's settings, as variables or flags. The server may be running or
stopped. --json: write one JSON object to stdout."""


class ParsedCommand(msgspec.Struct, frozen=True):
    """A command with its arguments.

    Attributes:
        json: whether the result is written as JSON.
        settings: the flags that are settings, for `settings.load`.
        repeated: the values of the command's repeatable flag.
    """

    command: Command
    argument: str
    json: bool
    settings: list[str]
    repeated: tuple[str, ...] = ()


def overview() -> str:
    """All commands with their help, for the server's --help."""
    return "; ".join(f"{c.usage}: {c.help}" for c in COMMANDS)


def parse(argv: Sequence[str]) -> ParsedCommand | None:
    """Parse a command line. Returns None if it does not begin with a command.

    Raises:
        SettingError: an argument is missing or not accepted.
        SystemExit: after --help, with status 0.
    """
    command = next((c for c in COMMANDS if argv[:1] == [c.name]), None)
    if command is None:
        return None
    rest = list(argv[1:])
    if {"-h", "--help"} & set(rest):
        usage = f"usage: server.py {command.usage} [--json] [--SETTING VALUE …]"
        sys.stdout.write(f"{usage}\n\n{command.help}\n{EPILOG}\n")
        raise SystemExit(0)
    as_json = "--json" in rest
    rest = [word for word in rest if word != "--json"]
    argument = ""
    if command.argument:
        if not rest or rest[0].startswith("--"):
            takes = f"{command.argument} as the next word"
            raise SettingError(command.name, "nothing", takes)
        argument = rest.pop(0)
    return ParsedCommand(command, argument, as_json, rest, _take_repeated(command, rest))


def _take_repeated(command: Command, rest: list[str]) -> tuple[str, ...]:
    """Remove the command's repeatable flag from `rest`, and return its values."""
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
