"""The process that forks servers for one test process (preloaded.py): it has imported them.

It ends with the test process, and ends what it has forked.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import server
from tests.support.preloaded import MAX_REQUEST_BYTES


class Forks:
    """The children that run, each with the descriptor by which its end is noticed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._running: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> list[str] | None:
        """Fork whenever asked. Returns in each child with its arguments; in this process with None
        when the test process has gone."""
        while True:
            control = self._control.fileno()
            ready, _, _ = select.select([control, *self._running], [], [])
            for descriptor in ready:
                if descriptor != control:
                    self._reap(descriptor)
            if control in ready:
                asked, descriptors, *_ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 3)
                if not asked:
                    self._end_all()
                    return None
                argv = self._fork(asked, descriptors)
                if argv is not None:
                    return argv

    def _fork(self, asked: bytes, descriptors: list[int]) -> list[str] | None:
        argv, environment = json.loads(asked)
        pid = os.fork()
        if pid == 0:
            for kept in (self._control, *(status for _, status in self._running.values())):
                kept.detach()  # _become closes them; these must not close another of that number
            _become(environment, *descriptors[:2])
            return [str(word) for word in argv]
        os.close(descriptors[0])
        os.close(descriptors[1])
        status = socket.socket(fileno=descriptors[2])
        self._running[os.pidfd_open(pid)] = pid, status
        _tell(status, pid)
        return None

    def _reap(self, descriptor: int) -> None:
        pid, status = self._running.pop(descriptor)
        _, ended = os.waitpid(pid, 0)
        os.close(descriptor)
        with status:
            _tell(status, os.waitstatus_to_exitcode(ended))

    def _end_all(self) -> None:
        for pid, _ in self._running.values():
            for number in (signal.SIGTERM, signal.SIGCONT):
                os.kill(pid, number)


def _tell(status: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # whoever asked has gone
        status.send(str(number).encode())


def _become(environment: dict[str, str], out: int, err: int) -> None:
    """Make of this fork what a newly started `python server.py` is."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 1 + max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the tests, which close this one
    control = socket.socket(fileno=int(sys.argv[1]))
    gc.collect()
    gc.freeze()
    argv = Forks(control).serve()
    if argv is None:
        return 0
    sys.argv = ["server.py", *argv]
    return server.main()


if __name__ == "__main__":
    sys.exit(main())
