"""Starts a program that must not outlive its parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Run by a Python of its own rather than as `preexec_fn`: that runs between fork and exec, where
# a lock that another thread held stays locked for ever. The signal survives execv. If the parent
# died before prctl took effect, it is someone else by now.
_LAUNCH = """
import ctypes, os, signal, sys
os.umask(0o077)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("its parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """The command line that runs a program whose files are its user's only, and which on Linux
    gets SIGTERM when this process dies, however it dies (PR_SET_PDEATHSIG).

    To be started from the main thread: Linux ends the program with the thread that made it.

    Args:
        command: the program's path and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]
