"""The commands of server.py: their names, arguments and help texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from services.errors import SettingError

PROGRAM = "server.py"
"""As it is started from the repository. The wheel has the command `usher`."""


class Option(msgspec.Struct, frozen=True):
    """A flag that a command accepts once.

    Attributes:
        name: without the dashes.
        takes: the accepted values; empty for any.
        shown: what stands for the value in the usage line.
    """

    name: str
    takes: tuple[str, ...] = ()
    shown: str = ""

    @property
    def usage(self) -> str:
        return f"[--{self.name} {self.shown or '|'.join(self.takes)}]"


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
    options: tuple[Option, ...] = ()

    @property
    def is_optional(self) -> bool:
        """Whether the argument may be left out."""
        return self.argument.startswith("[")

    @property
    def usage(self) -> str:
        """The usage line: the name and its arguments."""
        flag = f"--{self.repeated} {'|'.join(self.takes)} …" if self.repeated else ""
        options = [option.usage for option in self.options]
        return " ".join(part for part in (self.name, self.argument, flag, *options) if part)


MAKE_ADMIN = Command("make-admin", "EMAIL", "make an account an administrator")
RESET_PASSWORD = Command(
    "reset-password",
    "EMAIL",
    "create a link, shown only once, with which the owner of an account can set a new password "
    "within 30 minutes; setting it ends all login sessions of the account",
)
LIST_USERS = Command("list-users", "", "list the accounts: id, e-mail address, name, role")
ROTATE_JWT = Command(
    "rotate-jwt", "", "create a new secret for access tokens in DATA_DIR; no user is signed out"
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
INVITE = Command(
    "invite",
    "[EMAIL]",
    "create an invitation, whose link is shown only once, for anybody or for one address; with an "
    "address the link is mailed as well",
    options=(Option("role", ("user", "admin")), Option("expires-in", shown="SECONDS")),
)
DISABLE = Command(
    "disable",
    "EMAIL",
    "disable an account: its login sessions end and its sockets are closed at once",
)
ENABLE = Command("enable", "EMAIL", "enable a disabled account")
REMOVE_SECOND_FACTOR = Command(
    "remove-second-factor",
    "EMAIL",
    "remove the authenticator app, recovery codes and passkeys of an account, so that its password "
    "is enough; its owner gets a mail",
)
CHECK = Command(
    "check",
    "",
    "check the settings, database, Redis, mail server and providers, and say what is wrong and "
    "what to do; the exit status is 1 if something is",
)
COMMANDS = (
    MAKE_ADMIN,
    RESET_PASSWORD,
    INVITE,
    LIST_USERS,
    DISABLE,
    ENABLE,
    REMOVE_SECOND_FACTOR,
    CREATE_API_KEY,
    ROTATE_JWT,
    ROTATE_KEYS,
    CHECK,
)
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
        options: the values of its other flags, by name.
    """

    command: Command
    argument: str
    json: bool
    settings: list[str]
    repeated: tuple[str, ...] = ()
    options: dict[str, str] = {}


def overview() -> str:
    """All commands with their help, for the server's --help."""
    return "; ".join(f"{c.usage}: {c.help}" for c in COMMANDS)


def parse(argv: Sequence[str], program: str = PROGRAM) -> ParsedCommand | None:
    """Parse a command line. Returns None if it does not begin with a command.

    Args:
        program: the name of Usher for --help.

    Raises:
        SettingError: an argument is missing or not accepted.
        SystemExit: after --help, with status 0.
    """
    command = next((c for c in COMMANDS if argv[:1] == [c.name]), None)
    if command is None:
        return None
    rest = list(argv[1:])
    if {"-h", "--help"} & set(rest):
        usage = f"usage: {program} {command.usage} [--json] [--SETTING VALUE …]"
        sys.stdout.write(f"{usage}\n\n{command.help}\n{EPILOG}\n")
        raise SystemExit(0)
    as_json = "--json" in rest
    rest = [word for word in rest if word != "--json"]
    argument = ""
    is_given = bool(rest) and not rest[0].startswith("--")
    if command.argument and (is_given or not command.is_optional):
        if not is_given:
            takes = f"{command.argument} as the next word"
            raise SettingError(command.name, "nothing", takes)
        argument = rest.pop(0)
    repeated, options = _take_repeated(command, rest), _take_options(command, rest)
    return ParsedCommand(command, argument, as_json, rest, repeated, options)


def _take_options(command: Command, rest: list[str]) -> dict[str, str]:
    """Remove the command's options from `rest`, and return their values."""
    found: dict[str, str] = {}
    for option in command.options:
        flag = f"--{option.name}"
        while flag in rest:
            place = rest.index(flag)
            given = rest[place + 1 : place + 2]
            if not given or (option.takes and given[0] not in option.takes):
                got = repr(given[0]) if given else "nothing"
                takes = f"one of {', '.join(option.takes)}" if option.takes else option.shown
                raise SettingError(flag, got, takes)
            found[option.name] = given[0]
            del rest[place : place + 2]
    return found


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
