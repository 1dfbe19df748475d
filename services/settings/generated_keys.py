"""Keys that are generated once and stored in DATA_DIR when no setting provides them.

One file per setting, one key per line, newest first. To rotate, add a new line at the top.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet

from services.errors import SettingError
from services.secret import Secret
from services.settings.data_dir import FILE_MODE
from services.settings.values import BadValue, encryption_keys, jwt_secrets

JWT_SECRETS_FILE = "jwt_secrets.key"
ENCRYPTION_KEYS_FILE = "encryption_keys.key"
MAX_KEY_FILE_BYTES = 65_536
KEEP_OLDER = 4
"""Number of older keys that are kept when a new one is added."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def stored_jwt_secrets(data_dir: Path) -> tuple[tuple[Secret, ...], list[str]]:
    """Read the JWT secrets in DATA_DIR, or generate one if there is none.

    Returns:
        The secrets, newest first, and warnings for the log.

    Raises:
        SettingError: the file cannot be read, written or parsed.
    """
    path = data_dir / JWT_SECRETS_FILE
    return _stored(path, "USHER_JWT_SECRETS", lambda: secrets.token_urlsafe(48), jwt_secrets)


def stored_encryption_keys(data_dir: Path) -> tuple[tuple[Secret, ...], list[str]]:
    """Like `stored_jwt_secrets`, for Fernet keys."""
    path = data_dir / ENCRYPTION_KEYS_FILE
    return _stored(
        path, "USHER_ENCRYPTION_KEYS", lambda: Fernet.generate_key().decode(), encryption_keys
    )


def add_jwt_secret(data_dir: Path) -> int:
    """Add a new JWT secret to DATA_DIR, as the newest. Returns the number of secrets.

    Raises:
        SettingError: as `stored_jwt_secrets`.
    """
    secrets_, _ = stored_jwt_secrets(data_dir)
    kept = [secrets.token_urlsafe(48), *(s.reveal() for s in secrets_[:KEEP_OLDER])]
    _replace(data_dir / JWT_SECRETS_FILE, kept, "USHER_JWT_SECRETS")
    return len(kept)


def add_encryption_key(data_dir: Path) -> tuple[Secret, ...]:
    """Add a new Fernet key to DATA_DIR, as the newest. Returns all keys.

    Raises:
        SettingError: as `stored_jwt_secrets`.
    """
    keys, _ = stored_encryption_keys(data_dir)
    kept = [Fernet.generate_key().decode(), *(key.reveal() for key in keys[:KEEP_OLDER])]
    _replace(data_dir / ENCRYPTION_KEYS_FILE, kept, "USHER_ENCRYPTION_KEYS")
    return tuple(map(Secret, kept))


def _replace(path: Path, lines: list[str], setting: str) -> None:
    """Replace a key file atomically: a reader sees the old file or the new one."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                stream.write("\n".join(lines) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)
        except BaseException:  # an interrupt too: no partial key may remain
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise SettingError(
            setting, f"the file {str(path)!r} ({error.strerror})", "a file that can be written"
        ) from error


def _stored(
    path: Path,
    setting: str,
    generate: Callable[[], str],
    read: Callable[[str], tuple[Secret, ...]],
) -> tuple[tuple[Secret, ...], list[str]]:
    try:
        _create(path, generate)
        text, warnings = _read(path)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return read(",".join(lines)), warnings
    except (OSError, BadValue, UnicodeDecodeError) as error:
        # Not replaced by a new key: that would sign everyone out, or make encrypted data
        # unreadable.
        reason = error.strerror if isinstance(error, OSError) else "not a key file"
        raise SettingError(
            setting,
            f"the file {str(path)!r} ({reason})",
            "keys in the setting, or a key file of one key per line (restore it, or remove it "
            "to generate new keys)",
        ) from error


def _create(path: Path, generate: Callable[[], str]) -> None:
    """Create the file unless it exists.

    A temporary file is linked to the name. A link fails if the name exists, so when two servers
    start at once, one of them creates the file and both read it whole.
    """
    if path.exists():
        return
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(file, "w", encoding="ascii") as stream:
            stream.write(generate() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
        _sync_folder(path.parent)
    finally:
        aside.unlink()


def _read(path: Path) -> tuple[str, list[str]]:
    """Read the file's text and warnings. Removes the access of other users first, if they had
    it."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not block the start
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "not a regular file")
        warnings = _close_to_others(file, path, stat.S_IMODE(mode))
        return os.read(file, MAX_KEY_FILE_BYTES).decode("utf-8"), warnings
    finally:
        os.close(file)


def _close_to_others(file: int, path: Path, mode: int) -> list[str]:
    if not mode & _OTHERS:
        return []
    shown = f"{path} was open to other users (mode {mode:04o})"
    try:
        os.fchmod(file, FILE_MODE)
    except OSError:
        return [f"{shown} and its mode cannot be changed; its keys may be known"]
    return [f"{shown}; it is now closed (mode 0600), but its keys may be known: rotate them"]


def _sync_folder(folder: Path) -> None:
    # Otherwise a power cut could lose the file after tokens were signed with its key.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
