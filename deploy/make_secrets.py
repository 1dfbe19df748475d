"""Writes the secrets that deploy/docker-compose.yml mounts: `python3 deploy/make_secrets.py`.

A file that exists is kept, so that nothing is lost when this runs again. It needs only Python 3.10.
"""

from __future__ import annotations

import base64
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"


def write(folder: Path) -> list[str]:
    """Write the missing files into a folder that only its owner can enter.

    Compose mounts a secret with its owner and mode, and the image runs as another user than you. So
    the files themselves are readable by everybody, and the folder is not.

    Returns:
        The names of the files that were written.

    Raises:
        OSError: the folder or a file cannot be written or read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    written: list[str] = []

    def keep(name: str, value: str) -> str:
        path = folder / name
        if not path.exists():
            path.write_text(value + "\n", "utf-8")
            path.chmod(0o444)
            written.append(name)
        return path.read_text("utf-8").strip()

    password = keep("postgres_password", secrets.token_urlsafe(32))
    keep("database_url", f"postgresql://usher:{password}@postgres:5432/usher")
    keep("jwt_secrets", secrets.token_urlsafe(48))
    keep("encryption_keys", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    return written


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    names = write(target)
    print(f"{target}: {', '.join(names) if names else 'all files exist and are kept'}")
