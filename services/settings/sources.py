"""Reads the text of settings from the command line and the environment."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from services.errors import SettingError
from services.secret import MASK
from services.settings.command_line import NAMES, PROGRAM, overview
from services.settings.providers import provider_settings
from services.settings.row import Setting, ShownSetting
from services.settings.secret_files import read_secret_file
from services.settings.table import OAUTH_PROVIDERS, SETTINGS
from services.settings.values import BadValue

PREFIX = "USHER_"
MAX_SHOWN = 80
"""Characters of a bad value in the error line."""

SEE_HELP = "one of the flags that --help lists"

T = TypeVar("T")


class Sources:
    """Reads settings from the command line first, then from the environment.

    Args:
        environ: the environment.
        argv: the command line without the program's name.
        version: for --version.
        program: the name of Usher for --help.

    Raises:
        SettingError: an unknown flag, or a flag without its value.
        SystemExit: after --help or --version, with status 0.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        argv: Sequence[str],
        version: str,
        program: str = PROGRAM,
    ) -> None:
        self._environ = environ
        # Each provider adds flags, so the names of the providers are needed first.
        first = _parser((OAUTH_PROVIDERS,), version, program, add_help=False)
        self._flags = _given(first.parse_known_args(list(argv))[0])
        # --help works even with an invalid OAUTH_PROVIDERS.
        names = () if {"-h", "--help", "--version"} & set(argv) else self.value(OAUTH_PROVIDERS)
        providers = [setting for name in names for setting in provider_settings(name)]
        self._known: tuple[Setting[Any], ...] = (*SETTINGS, *providers)
        parser = _parser(self._known, version, program)
        found, rest = parser.parse_known_args(list(argv))
        if rest:
            known = [flag for s in self._known for flag in (s.flag, s.file_flag)[: 1 + s.secret]]
            raise _unknown_flag(rest[0], known)
        self._flags = _given(found)
        self._space: dict[str, str] = {}
        """Warnings by setting: values with leading or trailing white space."""

    def value(self, setting: Setting[T]) -> T:
        """The value of a setting that has a default.

        Raises:
            SettingError: its text is not valid.
        """
        value = self.optional(setting)
        if value is None:
            raise self.missing(setting, setting.meaning)
        return value

    def optional(self, setting: Setting[T]) -> T | None:
        """The value of a setting, or None if it is not set and has no default.

        Raises:
            SettingError: its text is not valid.
        """
        name, text = self._find(setting)
        if text is None:
            return None
        if setting.secret:
            self._warn_of_white_space(setting, name, text)
        try:
            if not text and not setting.is_list:
                raise BadValue(setting.meaning + "; leave it unset for the default", "nothing")
            return setting.read(text)
        except BadValue as error:
            got = error.got or (MASK if setting.secret else repr(text))
            raise SettingError(name, _shorten(got), error.takes) from error

    def missing(self, setting: Setting[Any], takes: str) -> SettingError:
        """The error for a required setting that is not set."""
        return SettingError(PREFIX + setting.name, "nothing", takes)

    def name(self, setting: Setting[Any]) -> str:
        """The name that the user gave: the flag if the value came from one, else the variable."""
        return self._find(setting)[0]

    def shown(self) -> list[ShownSetting]:
        """All settings as they were read, without the values of secrets."""
        found = []
        for setting in self._known:
            given = self._find_given(setting)
            by_default = setting.default or setting.shown_default
            by_default = "" if by_default == "none" else by_default
            source, text = given or ("default", by_default)
            found.append(
                ShownSetting(
                    PREFIX + setting.name,
                    text or None if not setting.secret else None,
                    setting.secret,
                    given is not None or bool(text),
                    source,
                    setting.meaning,
                )
            )
        return found

    def warnings(self) -> list[str]:
        """Warnings for the log.

        One for each `USHER_…` variable that is not a setting, and one for each secret with leading
        or trailing white space. Values are not shown, as a variable with a misspelt name may hold a
        secret.
        """
        known = self._known_names()
        unknown = [
            f"{name} is not a setting and is not used" + _nearest(name, known)
            for name in sorted(self._environ)
            if name.startswith(PREFIX) and name not in known
        ]
        return [*unknown, *self._space.values()]

    def refuse_unknown_of_providers(self) -> None:
        """Refuse unknown variables of a configured provider.

        A misspelt rule would otherwise admit users that it should refuse.

        Raises:
            SettingError: for the first such variable.
        """
        known = self._known_names()
        stems = tuple(
            (PREFIX + provider_settings(name).issuer.name).removesuffix("ISSUER")
            for name in self.value(OAUTH_PROVIDERS)
        )
        for name in sorted(self._environ):
            if stems and name.startswith(stems) and name not in known:
                takes = "a setting that docs/oauth.md lists" + _nearest(name, known)
                raise SettingError(name, "an unknown setting", takes)

    def _known_names(self) -> list[str]:
        files = [PREFIX + setting.file_name for setting in self._known if setting.secret]
        return [PREFIX + setting.name for setting in self._known] + files

    def _find(self, setting: Setting[Any]) -> tuple[str, str | None]:
        """The variable or flag that sets it, and its text. The command line takes precedence."""
        return self._find_given(setting) or (PREFIX + setting.name, setting.default)

    def _find_given(self, setting: Setting[Any]) -> tuple[str, str] | None:
        variable, file = PREFIX + setting.name, PREFIX + setting.file_name
        flags, environ = self._flags, self._environ
        return _find_in(
            flags, setting, (setting.name, setting.file_name), setting.flag
        ) or _find_in(environ, setting, (variable, file), variable)

    def _warn_of_white_space(self, setting: Setting[Any], name: str, text: str) -> None:
        parts = text.split(",") if setting.keeps_space else [text]
        if any(part != part.strip() for part in parts):
            then = "which is part of it" if setting.keeps_space else "which is removed"
            self._space[setting.name] = f"{name} has white space at its ends, {then}"


def _find_in(
    source: Mapping[str, str], setting: Setting[Any], keys: tuple[str, str], shown: str
) -> tuple[str, str] | None:
    """Look a setting up in one source: its text, or the content of the file that it names."""
    text = source.get(keys[0])
    path = source.get(keys[1]) if setting.secret else None
    shown_file = setting.file_flag if shown == setting.flag else keys[1]
    if path is None:
        return None if text is None else (shown, text)
    if text is not None:
        raise SettingError(shown_file, f"a file beside {shown}", "one of the two")
    return shown_file, read_secret_file(path, shown_file)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would print several lines, which may contain a secret. The only error left here
        # is a flag without its value: "argument --port: expected …".
        flag = message.removeprefix("argument ").partition(":")[0]
        raise SettingError(flag, "nothing", f"a value: {flag} VALUE or {flag}=VALUE")


def _parser(
    settings: Sequence[Setting[Any]], version: str, program: str, *, add_help: bool = True
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Usher, a WebSocket authentication server.",
        epilog=f"Each flag is also a variable: --data-dir is {PREFIX}DATA_DIR. The flag takes "
        "precedence. Pass secrets as variables or in files: other users of this machine can see a "
        "command line. Commands are given as the first argument; the server may be running or "
        f"stopped: {overview()}. See also `{program} COMMAND --help`.",
        allow_abbrev=False,
        add_help=add_help,
    )
    for setting in settings:
        default = setting.shown_default or setting.default or "none"
        parser.add_argument(
            setting.flag,
            dest=setting.name,
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{setting.meaning} (default: {default})".replace("%", "%%"),
        )
        if setting.secret:
            parser.add_argument(
                setting.file_flag,
                dest=setting.file_name,
                metavar="FILE",
                default=argparse.SUPPRESS,
                help=f"file that holds {setting.name}",
            )
    if add_help:
        parser.add_argument("--version", action="version", version=f"usher {version}")
    return parser


def _given(found: argparse.Namespace) -> dict[str, str]:
    return {name: str(text) for name, text in vars(found).items()}


def _unknown_flag(text: str, known: list[str]) -> SettingError:
    flag = text.partition("=")[0]
    if text in NAMES:
        return SettingError("command line", f"{text} after a flag", "a command as the first word")
    if not flag.startswith("--") or not flag.isprintable():
        return SettingError("command line", "a value without a flag", SEE_HELP)
    takes = SEE_HELP + _nearest(flag, known)
    return SettingError(_shorten(flag), "an unknown flag", takes)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {near[0]}?)" if near else ""


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
