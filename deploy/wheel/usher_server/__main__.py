"""Starts server.py of the folder `app`: the command `usher` of the wheel."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

APP = Path(__file__).resolve().parent / "app"


def main() -> int:
    """Run `usher` with the arguments of this process. Returns the exit status."""
    # In front, so that no `models` or `services` of another package in this environment is taken.
    sys.path.insert(0, str(APP))
    # Several processes are started as `python app/server.py`, which finds its packages beside it.
    os.environ.pop("PYTHONSAFEPATH", None)
    server = importlib.import_module("server")
    status: int = server.main(program="usher")
    return status


if __name__ == "__main__":
    sys.exit(main())
