"""Runs a command of server.py: opens what it needs, and reports what it did."""

from __future__ import annotations

import sys
import time
from types import MappingProxyType

import msgspec

from services.accounts.account_rows import UserRow
from services.accounts.api_key_rows import KeyRow, Scope
from services.accounts.password_links import PasswordLink
from services.audit.events import Caller
from services.claims import Role
from services.commands import keys
from services.commands.users import UserCommands
from services.composition import container
from services.composition.checking import CheckFailed, check, check_text
from services.composition.container import Services
from services.composition.infrastructure import close_infrastructure, command_infrastructure
from services.errors import DatabaseUnavailable, SettingError
from services.registration.invitations import DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS
from services.secret import Secret
from services.settings.command_line import (
    CHECK,
    CREATE_API_KEY,
    DISABLE,
    ENABLE,
    INVITE,
    LIST_USERS,
    MAKE_ADMIN,
    REMOVE_SECOND_FACTOR,
    RESET_PASSWORD,
    ROTATE_JWT,
    ROTATE_KEYS,
    ParsedCommand,
)
from services.settings.data_dir import running_server
from services.settings.origins import Origins
from services.settings.settings import Settings
from services.storage.database_url import is_there


async def operate(call: ParsedCommand, chosen: Settings) -> None:
    """Execute a command, and write the result to stdout.

    Raises:
        SettingError, UsherError: the command failed; nothing was written to stdout.
    """
    if call.command == ROTATE_JWT:
        jwt = await keys.rotate_jwt(chosen)
        _print_result(call, jwt, _jwt_text(jwt))
    elif call.command == ROTATE_KEYS:
        done = await keys.rotate_encryption_keys(chosen)
        _print_result(call, done, _keys_text(done))
    elif call.command == CHECK:
        await _check(call, chosen)
    else:
        await _with_services(call, chosen)


async def _with_services(call: ParsedCommand, chosen: Settings) -> None:
    if not is_there(chosen.database_url.reveal()):
        raise DatabaseUnavailable("there is no database at that place yet; is it the right one?")
    infrastructure = await command_infrastructure(chosen)
    url = _public_url(chosen)
    services = container.build(infrastructure, url, url, lambda _: None)
    try:
        services.audit.acting(Caller("command-line"))
        await _COMMANDS[call.command.name](call, services)
        await services.audit.write_rows()
    finally:
        await _close(services)


async def _create_api_key(call: ParsedCommand, services: Services) -> None:
    scopes = msgspec.convert(call.repeated, list[Scope])
    row, key = await services.api_keys.create(call.argument, scopes, None)
    services.audit.record("api_key.created", target=row.id)
    _print_result(call, {**msgspec.to_builtins(row), "key": key.reveal()}, _key_text(row, key))


async def _list_users(call: ParsedCommand, services: Services) -> None:
    found = await _users(services).list_users()
    _print_result(call, {"items": found}, "\n".join(map(_user_text, found)) or "no accounts yet")


async def _make_admin(call: ParsedCommand, services: Services) -> None:
    user = await _users(services).make_admin(call.argument, time.time())
    services.audit.record("user.changed", subject=user.id, reason="make-admin")
    _print_result(call, user, f"administrator now: {_user_text(user)}")


async def _reset_password(call: ParsedCommand, services: Services) -> None:
    link = await services.password_links.for_address(call.argument)
    services.audit.record("link.created", subject=link.user.id, reason="reset-password")
    shown = {"user": link.user, "url": link.url.reveal(), "expires_at": link.expires_at}
    _print_result(call, shown, _link_text(link))


async def _invite(call: ParsedCommand, services: Services) -> None:
    seconds = _seconds(call.options.get("expires-in"))
    role = msgspec.convert(call.options.get("role", "user"), Role)
    made = await services.registration.invitations.create(
        None, call.argument or None, role, seconds
    )
    services.audit.record("invitation.created", target=made.row.id)
    shown = {**msgspec.to_builtins(made.row), "url": made.url.reveal()}
    whom = f" for {made.row.email}" if made.row.email else ""
    text = f"invitation{whom}: {made.url.reveal()}\nIt works once, and is shown only once."
    _print_result(call, shown, text)


def _seconds(text: str | None) -> float:
    """The value of --expires-in.

    Raises:
        SettingError: it is no number within the bounds.
    """
    if text is None:
        return DEFAULT_SECONDS
    takes = f"a number of seconds from {LEAST_SECONDS:g} to {MOST_SECONDS:g}"
    value = float(text) if text.isascii() and text.isdecimal() and len(text) < 12 else -1.0
    if not LEAST_SECONDS <= value <= MOST_SECONDS:
        raise SettingError("--expires-in", repr(text[:20]), takes)
    return value


async def _set_disabled(call: ParsedCommand, services: Services) -> None:
    disabled = call.command == DISABLE
    user = await _users(services).get(call.argument)
    row = await services.administration.update(user.id, None, disabled)
    services.audit.record("user.changed", subject=row.id, reason=call.command.name)
    _print_result(call, row, f"{call.command.name}d: {_user_text(row)}")


async def _remove_second_factor(call: ParsedCommand, services: Services) -> None:
    user, removed = await _users(services).remove_second_factor(
        call.argument, services.factors.remove_all, services.mail.outbox
    )
    if removed:
        services.audit.record("second_factor.removed", subject=user.id, reason="command-line")
    said = "removed" if removed else "there was none"
    shown = {**msgspec.to_builtins(user), "removed": removed}
    _print_result(call, shown, f"second factor: {said}: {_user_text(user)}")


_COMMANDS = MappingProxyType(
    {
        MAKE_ADMIN.name: _make_admin,
        RESET_PASSWORD.name: _reset_password,
        INVITE.name: _invite,
        LIST_USERS.name: _list_users,
        DISABLE.name: _set_disabled,
        ENABLE.name: _set_disabled,
        REMOVE_SECOND_FACTOR.name: _remove_second_factor,
        CREATE_API_KEY.name: _create_api_key,
    }
)


def _users(services: Services) -> UserCommands:
    database = services.infrastructure.database
    return UserCommands(database, services.revocations, services.webhooks.outbox)


async def _check(call: ParsedCommand, chosen: Settings) -> None:
    """Check the installation.

    Raises:
        CheckFailed: something is wrong; it was written to stdout.
    """
    found = await check(chosen, _public_url(chosen))
    shown = {"ok": not any(each.state == "failed" for each in found), "items": found}
    _print_result(call, shown, "\n".join(map(check_text, found)))
    if not shown["ok"]:
        failed = ", ".join(each.name for each in found if each.state == "failed")
        raise CheckFailed(f"something is wrong: {failed}")


async def _close(services: Services) -> None:
    services.passwords.close()
    await services.oauth.close()
    await services.mail.dispatcher.close()
    await close_infrastructure(services.infrastructure)


def _print_result(call: ParsedCommand, answer: object, text: str) -> None:
    shown = msgspec.json.encode(answer).decode() if call.json else text
    sys.stdout.write(shown + "\n")


def _user_text(user: UserRow) -> str:
    name = "".join(c for c in user.name if c.isprintable())
    disabled = "  disabled" if user.disabled else ""
    return f"{user.id}  {user.email}  {user.role}{disabled}  {name}"


def _public_url(chosen: Settings) -> str:
    """The base URL of links: that of the server that runs on DATA_DIR, else the URL at which one
    would listen with these settings."""
    running = running_server(chosen.data_dir) if chosen.embedded else None
    if chosen.public_url is None and running is not None and running.public_url:
        return running.public_url
    scheme = "http" if chosen.tls_certificate is None else "https"
    origins = Origins(chosen.public_url, chosen.host, chosen.port, scheme=scheme)
    return origins.opened(providers=bool(chosen.oauth_providers))


def _link_text(link: PasswordLink) -> str:
    return (
        f"a new password for {link.user.email}: {link.url.reveal()}\n"
        "It works once, within 30 minutes, and is shown this once. Give it to the owner of the "
        "account only.\nUntil it is used nothing changes; then all login sessions of the account "
        "end."
    )


def _key_text(row: KeyRow, key: Secret) -> str:
    return (
        f"new API key {row.id} ({', '.join(row.scopes)}): {key.reveal()}\n"
        "It is shown this once. An administrator may revoke it."
    )


def _jwt_text(done: keys.JwtRotated) -> str:
    lines = [f"usher: a new secret signs access tokens; {done.secrets - 1} older ones still verify"]
    lines.append(
        f"usher: process {done.reloaded} has read it; it signs 10 seconds from now"
        if done.reloaded
        else f"usher: no server runs on this folder; if one does elsewhere, {keys.NOT_TOLD}"
    )
    return "\n".join(lines)


def _keys_text(done: keys.KeysRotated) -> str:
    lines = [f"usher: sets of provider tokens under the newest key now: {done.rotated}"]
    if done.new_key:
        read = f", which process {done.reloaded} has read" if done.reloaded else ""
        lines.insert(0, f"usher: a new key is in DATA_DIR{read}")
    else:
        lines.append("usher: of USHER_ENCRYPTION_KEYS only the first is needed from now on")
    if done.app_key:
        lines.append(
            "usher: app tokens have a new key pair; it is published within a minute and signs 10 "
            "minutes from now, and the old one is published until its tokens have ended"
        )
    return "\n".join(lines)
