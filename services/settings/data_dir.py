"""DATA_DIR: the folder of the embedded database, embedded Redis and generated keys.

Only one server at a time may use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from services.errors import SettingError

FOLDER_MODE = 0o700
FILE_MODE = 0o600
LOCK_FILE = "usher.lock"
MAX_RECORD_BYTES = 1000
TAKES = "a folder that this user can read and write"
# Present on a fresh volume.
_NOT_CONTENT = frozenset({"lost+found"})
# Created by Usher only.
_OWN_CONTENT = frozenset({LOCK_FILE, "jwt_secrets.key", "encryption_keys.key"})
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def prepare_data_dir(path: Path, setting: str = "USHER_DATA_DIR") -> list[str]:
    """Create the folder with mode 0700, or set that mode if the folder is Usher's own.

    The mode of a folder with other content (a home folder, /tmp) is not changed.

    Args:
        path: DATA_DIR.
        setting: the variable or flag that set it, for the error.

    Returns:
        Warnings for the log.

    Raises:
        SettingError: the folder cannot be created or used.
    """
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode)
        content = {entry.name for entry in path.iterdir()} - _NOT_CONTENT
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError("Permission denied")
    except OSError as error:
        raise _unusable(path, setting, error) from error
    if not mode & _OTHERS:
        return []
    shown = f"{path} is open to other users (mode {mode:04o})"
    if not content or content & _OWN_CONTENT:
        with contextlib.suppress(OSError):  # owned by another user: warned of below
            path.chmod(FOLDER_MODE)
            return [f"{shown}; it is now closed to them (mode 0700)"]
    return [f"{shown}; give {setting} a folder of its own, with mode 0700"]


class RunningServer(NamedTuple):
    """The server that uses a DATA_DIR.

    Attributes:
        process: its process id.
        reloads: how often it has reloaded its settings.
        public_url: the URL that people are told to open, where links lead; empty while it starts.
    """

    process: int
    reloads: int
    public_url: str = ""


def running_server(path: Path) -> RunningServer | None:
    """The server that currently uses a DATA_DIR, or None."""
    try:
        file = os.open(path / LOCK_FILE, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _recorded(os.pread(file, MAX_RECORD_BYTES, 0).decode("ascii", "replace").split())
    finally:
        os.close(file)
    return None


def _recorded(words: list[str]) -> RunningServer | None:
    numbers = [int(word) for word in words[:2] if word.isdigit()]
    if not numbers:
        return None
    return RunningServer(numbers[0], numbers[1] if len(numbers) > 1 else 0, "".join(words[2:3]))


class DataDirLock:
    """Locks DATA_DIR for this process, so that two servers never share an embedded database.

    This is an advisory lock (flock). The system releases it when the process ends, however it ends.

    Args:
        path: DATA_DIR, which exists.
        setting: the variable or flag that set it, for the error.
    """

    def __init__(self, path: Path, setting: str = "USHER_DATA_DIR") -> None:
        self._path, self._setting = path, setting
        self._file: int | None = None
        self._reloads, self._public_url = 0, ""

    def acquire(self) -> None:
        """Acquire the lock, or fail at once.

        Raises:
            SettingError: another server holds it; the error names its process id.
        """
        try:
            file = os.open(self._path / LOCK_FILE, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise _unusable(self._path, self._setting, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(file) if isinstance(error, BlockingIOError) else str(error.strerror)
            os.close(file)
            got = f"{str(self._path)!r} ({holder})"
            takes = "a folder that no other server uses"
            raise SettingError(self._setting, got, takes) from error
        os.ftruncate(file, 0)
        self._file = file
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)

    def record_reloads(self, count: int) -> None:
        """Record the number of reloads, for a command that waits for one."""
        self._reloads = count
        self._record()

    def record_public_url(self, url: str) -> None:
        """Record the URL at which browsers reach this server, for commands that create links."""
        self._public_url = url
        self._record()

    def _record(self) -> None:
        # The record never gets shorter, so no part of the previous one remains.
        if self._file is not None:
            text = f"{os.getpid()}\n{self._reloads}\n{self._public_url}\n"
            os.pwrite(self._file, text.encode("ascii", "replace"), 0)

    def release(self) -> None:
        """Release the lock; a second call does nothing.

        The file is not deleted. Otherwise two servers could lock two different files of that name.
        """
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> DataDirLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _holder(file: int) -> str:
    pid = os.pread(file, 20, 0).partition(b"\n")[0].strip()
    return f"in use by process {int(pid)}" if pid.isdigit() else "in use by another process"


def _unusable(path: Path, setting: str, error: OSError) -> SettingError:
    reason = error.strerror or str(error)
    return SettingError(setting, f"{str(path)!r} ({reason})", TAKES)
