"""Secrets in files, as Docker, Kubernetes and systemd provide them: `USHER_JWT_SECRETS_FILE`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from services.errors import SettingError

MAX_BYTES = 65_536
TAKES = f"a UTF-8 file of at most {MAX_BYTES} bytes that this user can read, with one value in it"


def read_secret_file(path: str, setting: str) -> str:
    """Read a secret from a file, without the line ending that editors add at the end.

    Args:
        path: of a regular file; relative to the working directory.
        setting: the variable or flag that named the file, for the error.

    Raises:
        SettingError: the file can't be read or has other content. The content is not shown.
    """
    try:
        text = _read(Path(path).expanduser())
    except (OSError, RuntimeError, UnicodeDecodeError, ValueError) as error:
        # A decoding error quotes the content: `from None` keeps it out of every traceback.
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise SettingError(setting, f"{path!r} ({reason})", TAKES) from None
    return text.removesuffix("\n").removesuffix("\r")


def _read(path: Path) -> str:
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not block the start
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(0, "not a regular file")
        data = os.read(file, MAX_BYTES + 1)
    finally:
        os.close(file)
    if len(data) > MAX_BYTES:
        raise OSError(0, "too large")
    return data.decode("utf-8")
