"""The embedded default: a real redis-server that starts and stops with Usher.

It listens on a unix socket in a folder that only Usher's user can open, and on no port. Its
append-only file restores tickets, sessions and revocations after a restart.

Two servers must never run on one folder, because both would write the same append-only file:

- On Linux the kernel ends the server when Usher dies, however it dies (PR_SET_PDEATHSIG).
- Every start finds a server left by an earlier run, by its socket or its pid file, and shuts it
  down before the new one starts.

The lock file, not this module, ensures that only one Usher runs per data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from services.embedded.binary import check_folder, record_writer, version_of, written_by
from services.embedded.child_process import tied_to_parent
from services.embedded.orphan import STOP_SECONDS, Orphan, ask
from services.errors import StoreUnavailable
from services.event_loop.tasks import end_tasks

log = logging.getLogger(__name__)

SOCKET_PATH_BYTES = 103
"""What fits everywhere: sun_path takes 108 bytes on Linux, 104 on macOS, with its final zero."""

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.1, 5.0
LOG_BYTES = 1024 * 1024

# No other environment variable is passed on: they may hold Usher's secrets.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")


class EmbeddedRedis:
    """One redis-server under supervision.

    It must be started from the main thread: Linux ends the server with the thread that started it.

    Args:
        data_dir: Usher's data folder; the server's files go to `redis/` in it, mode 0700.
        binary: the server, as `binary.find_redis_server` gives it.
        on_restart: called each time the server died by itself and has to be restarted.
        start_timeout: seconds until it must answer, reading its append-only file included.
        memory_bytes: how much memory it may use, `maxmemory`; 0 for no limit. It refuses writes
            beyond that.
    """

    def __init__(
        self,
        data_dir: Path,
        binary: Path,
        *,
        on_restart: Callable[[], None] | None = None,
        start_timeout: float = 30.0,
        memory_bytes: int = 0,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._folder = Path(data_dir).absolute() / "redis"
        self._binary = binary
        self._socket = _socket_path(self._folder)
        self._pid_file = self._folder / "redis.pid"
        self._orphan = Orphan(self._socket, self._pid_file)
        self._log_file = self._folder / "redis.log"
        self._on_restart = on_restart
        self._start_timeout = start_timeout
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        """Where the server listens, as a URL for `RedisStore`; holds no secret."""
        return "unix://" + quote(os.fspath(self._socket))

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """End a server left by an earlier run, start the server, and wait until it answers.

        Raises:
            StoreUnavailable: it does not start, or not in time. The text has its last output.
        """
        try:
            _private_folder(self._folder)
            _private_folder(self._socket.parent)
            await self._orphan.end()
            await self._take_over_folder()
        except OSError as error:
            raise StoreUnavailable(f"redis-server does not start: {_text(error)}") from error
        self._supervisor = asyncio.create_task(self._supervise(), name="redis-supervisor")

    async def _take_over_folder(self) -> None:
        version = await asyncio.to_thread(version_of, self._binary)
        check_folder(self._folder, version)
        before = written_by(self._folder)
        try:
            await self._launch()
        except StoreUnavailable as error:
            if before not in {"", version.text}:
                text = f"{error.evidence} ({version.text}, in a folder written by {before})"
                raise StoreUnavailable(text) from error
            raise
        record_writer(self._folder, version)

    async def stop(self) -> None:
        """Shut the server down: SIGTERM, then SIGKILL. May be called more than once."""
        self._stopping = True
        await end_tasks(self._supervisor)
        await self._end_process()
        self._pid_file.unlink(missing_ok=True)
        if self._socket.parent != self._folder:
            self._socket.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: not only ours
                self._socket.parent.rmdir()

    async def _launch(self) -> None:
        with self._open_log() as output:
            self._process = await asyncio.create_subprocess_exec(
                *tied_to_parent(self._command()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for Usher, which drains before it stops this
            )
        try:
            self._orphan.record(f"{self._process.pid}\n".encode())
            await self._wait_until_ready(self._process)
        except BaseException:  # also if cancelled: an unsupervised server must not remain
            await self._end_process()
            raise

    def _command(self) -> list[str]:
        options = {
            "dir": os.fspath(self._folder),
            "unixsocket": os.fspath(self._socket),
            "unixsocketperm": "700",
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            # If a revocation or a used ticket were evicted, a revoked client would be admitted.
            "maxmemory-policy": "noeviction",
            "maxmemory": str(self._memory_bytes),
            "daemonize": "no",
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [os.fspath(self._binary), *flags]

    def _open_log(self) -> Any:
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        return os.fdopen(os.open(self._log_file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._start_timeout
        pause = 0.01
        while await ask(self._socket, "PING") != b"PONG":
            if process.returncode is not None:
                raise StoreUnavailable(f"redis-server ended at once: {self._last_log_line()}")
            if loop.time() > end:
                raise StoreUnavailable(
                    f"redis-server does not answer after {self._start_timeout:g} s: "
                    f"{self._last_log_line()}"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def _last_log_line(self) -> str:
        with self._log_file.open("rb") as file:
            file.seek(max(0, self._log_file.stat().st_size - 2048))
            lines = file.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY_SECONDS
        while not self._stopping:
            since = loop.time()
            if self._process is not None:
                await self._process.wait()
            if loop.time() - since > LAST_DELAY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            log.error("redis-server ended by itself; it is started again")
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            delay = min(delay * 2, LAST_DELAY_SECONDS)
            await self._start_again()

    async def _start_again(self) -> None:
        try:
            if self._on_restart is not None:
                self._on_restart()
            await self._launch()
        except StoreUnavailable as error:
            log.warning("redis-server cannot be started again: %s", error.evidence)
        except Exception:  # whatever it is (disk full, folder gone), it may be temporary: retry
            log.exception("redis-server cannot be started again")

    async def _end_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        _, late = await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=STOP_SECONDS)
        if late:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.wait(late)


def _text(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _socket_path(folder: Path) -> Path:
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    # Named after the data folder, so that the next run looks for its orphan in the same place.
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"usher-{os.getuid()}-{name}", "redis.sock")


def _private_folder(folder: Path) -> None:
    """Create a folder that only this user can open.

    Raises:
        StoreUnavailable: the folder belongs to another user, who could read our data there.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StoreUnavailable("the folder for redis-server is not ours alone")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
