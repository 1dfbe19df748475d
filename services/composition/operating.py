"""Runs a command of server.py: opens what it needs, and reports what it did."""

from __future__ import annotations

import sys
import time

import msgspec

from services.accounts.account_rows import UserRow
from services.accounts.api_key_rows import KeyRow, Scope
from services.accounts.password_links import PasswordLink
from services.audit.events import Caller
from services.commands import keys
from services.commands.users import UserCommands
from services.composition import container
from services.composition.container import Services
from services.composition.infrastructure import command_infrastructure
from services.errors import DatabaseUnavailable
from services.secret import Secret
from services.settings.command_line import (
    CREATE_API_KEY,
    LIST_USERS,
    MAKE_ADMIN,
    RESET_PASSWORD,
    ROTATE_JWT,
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
    elif call.command in (MAKE_ADMIN, RESET_PASSWORD, LIST_USERS, CREATE_API_KEY):
        await _with_users(call, chosen)
    else:
        done = await keys.rotate_encryption_keys(chosen)
        _print_result(call, done, _keys_text(done))


async def _with_users(call: ParsedCommand, chosen: Settings) -> None:
    if not is_there(chosen.database_url.reveal()):
        raise DatabaseUnavailable("there is no database at that place yet; is it the right one?")
    infrastructure = await command_infrastructure(chosen)
    services = container.build(infrastructure, _public_url(chosen), lambda _: None)
    try:
        services.audit.acting(Caller("command-line"))
        users = UserCommands(
            infrastructure.database,
            services.revocations,
            services.webhooks.outbox,
        )
        if call.command == CREATE_API_KEY:
            scopes = msgspec.convert(call.repeated, list[Scope])
            row, key = await services.api_keys.create(call.argument, scopes, None)
            services.audit.record("api_key.created", target=row.id)
            shown = {**msgspec.to_builtins(row), "key": key.reveal()}
            _print_result(call, shown, _key_text(row, key))
        elif call.command == LIST_USERS:
            found = await users.list_users()
            _print_result(
                call, {"items": found}, "\n".join(map(_user_text, found)) or "no accounts yet"
            )
        elif call.command == MAKE_ADMIN:
            user = await users.make_admin(call.argument, time.time())
            services.audit.record("user.changed", subject=user.id, reason="make-admin")
            _print_result(call, user, f"administrator now: {_user_text(user)}")
        else:
            link = await services.password_links.for_address(call.argument)
            services.audit.record("link.created", subject=link.user.id, reason="reset-password")
            shown = {"user": link.user, "url": link.url.reveal(), "expires_at": link.expires_at}
            _print_result(call, shown, _link_text(link))
        await services.audit.write_rows()
    finally:
        await _close(services)


async def _close(services: Services) -> None:
    services.passwords.close()
    await services.oauth.close()
    await services.infrastructure.database.close()


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
    return Origins(chosen.public_url, chosen.host, chosen.port, scheme=scheme).public_url


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
