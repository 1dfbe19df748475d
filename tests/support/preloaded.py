"""`python server.py` without the start of Python: a process that has imported it forks (forks.py).

A start costs 0.8 s of CPU, of which the imports are most; the suite makes hundreds. So each test
process has one child that has imported `server` and waits. Asked for a server, it forks; the fork
gets the asked-for environment, folder and descriptors, and runs `server.main` to the end of its
interpreter, as the last line of server.py does. What is shared is what an import leaves behind.

What a fork cannot show is started by `python server.py` itself: on a system other than Linux, and
where a variable that Python or a library reads at its own start is not that of this process (see
`preloadable`). `make run`, the soak and tests/test_server*.py never come here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
MAX_REQUEST_BYTES = 150_000
"""Below what a socket takes at once."""
FREE = ("USHER_", "PYTEST_CURRENT_TEST")
"""How the variables begin that Python and its libraries do not read at their start."""


class Forked:
    """A server that was forked: what tests use of subprocess.Popen.

    Args:
        stdout: what is read of it here.
        status: the preloading process writes the process id to it, and later the exit status.
    """

    def __init__(self, args: list[str], stdout: IO[str] | None, status: socket.socket) -> None:
        self.args = args
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()
        self.pid = self._reply()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self.returncode is None and self._has_reply(0):
                self._ended()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        with self._lock:
            if self.returncode is None:
                if not self._has_reply(timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
                self._ended()
            assert self.returncode is not None
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Does nothing to a process that has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_reply(self, timeout: float | None) -> bool:
        waiting = select.poll()  # select() takes no descriptor above 1,023
        waiting.register(self._status, select.POLLIN)
        return bool(waiting.poll(None if timeout is None else timeout * 1000))

    def _ended(self) -> None:
        self.returncode = self._reply()
        self._status.close()

    def _reply(self) -> int:
        said = self._status.recv(64)
        assert said, "the process that forks servers has ended"
        return int(said)


class Preloader:
    """The process that forks; it ends with this one, and ends what it has forked."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.environment = dict(os.environ)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forks", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdout=subprocess.DEVNULL,  # as a pipe is: not a terminal
            )

    def fork(
        self, argv: Sequence[str], environment: Mapping[str, str], out: int, err: int
    ) -> socket.socket:
        """Fork a server. Returns the pipe with its process id and its exit status.

        Args:
            out: descriptor of its stdout. `err`: of its stderr.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            asked = json.dumps([list(argv), dict(environment)]).encode()
            assert len(asked) <= MAX_REQUEST_BYTES, "the environment of a test is not that long"
            socket.send_fds(self._control, [asked], [out, err, theirs.fileno()])
        return ours


_lock = threading.Lock()
_own: list[Preloader] = []


def preloader() -> Preloader:
    """The one of this test process, which starts with the first server."""
    with _lock:
        if not _own:
            _own.append(Preloader())
    return _own[0]


def preloadable(environment: Mapping[str, str]) -> bool:
    """Whether a fork has this environment as a process started with it would have."""
    if not sys.platform.startswith("linux"):
        return False
    theirs = preloader().environment
    changed = {n for n in {*environment, *theirs} if environment.get(n) != theirs.get(n)}
    return all(name.startswith(FREE) for name in changed)


def start_server(
    environment: Mapping[str, str],
    *,
    from_scratch: bool = False,
    program: Sequence[str] = (),
) -> Forked | subprocess.Popen[str]:
    """A server, with its stdout and stderr in the pipe `stdout`.

    Args:
        from_scratch: not forked, even where that shows no difference.
        program: the command, if it is not server.py of this repository.
    """
    command = list(program) or [sys.executable, "server.py"]
    if program or from_scratch or not preloadable(environment):
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    reading, writing = os.pipe()
    try:
        status = preloader().fork((), environment, writing, writing)
    finally:
        os.close(writing)
    return Forked(command, os.fdopen(reading), status)


def run_command(
    environment: Mapping[str, str], *argv: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """A command of server.py to its end, as subprocess.run gives it.

    Raises:
        subprocess.TimeoutExpired: it was killed after so many seconds.
    """
    command = [sys.executable, "server.py", *argv]
    if not preloadable(environment):
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        status = preloader().fork(argv, environment, out.fileno(), err.fileno())
        running = Forked(command, None, status)
        try:
            code = running.wait(timeout)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())
