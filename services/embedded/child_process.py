"""Starts a program that must not outlive its parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Run by a separate Python rather than as `preexec_fn`, which runs between fork and exec, where a
# lock held by another thread stays locked for ever. The signal setting survives execv. If the
# parent died before prctl took effect, the parent process id has changed.
_LAUNCH = """
import ctypes, os, signal, sys
os.umask(0o077)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("its parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """The command line that runs a program with umask 077, and on Linux sends it SIGTERM when this
    process ends in any way (PR_SET_PDEATHSIG).

    Start it from the main thread: Linux ends the program with the thread that started it.

    Args:
        command: the program's path and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]
