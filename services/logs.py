"""The log on stderr: without secrets, with repeated lines collapsed, as text or as JSON.

It is one handler of the root logger, so it applies to all loggers: Tornado logs headers that it
could not parse, and asyncio the repr of what failed. A thread writes, so that a blocked stderr does
not block the event loop.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TextIO

import msgspec

HIDDEN = "[hidden]"
EMAIL = "[e-mail]"
QUERY = "?[query]"
MAX_WAITING = 10_000
"""Lines that may wait for the reader of stderr; further lines are only counted."""
CLOSE_SECONDS = 2.0

FIRST_WINDOW_SECONDS = 10.0
LAST_WINDOW_SECONDS = 640.0
"""A warning that repeats is said once, then counted for 10 s, then for 20, 40, …"""
BURST = 100
"""Lines of one origin in the source, whatever their values, in 10 s; those beyond are counted."""
MAX_KEYS = 1000

_SECRET = re.compile(
    r"eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*"  # JWT (RFC 7519)
    r"|usher\.bearer\.[^\s'\",;]+"
    r"|(?<=bearer )[A-Za-z0-9._~+/=-]{16,}|(?<=basic )[A-Za-z0-9._~+/=-]{8,}"  # RFC 6750, 7617
    r"|(?-i:usher_[a-z]+[_.][A-Za-z0-9._-]+)|whsec_[A-Za-z0-9+/=]+"
    r"|gAAAA[A-Za-z0-9_-]{20,}={0,2}",  # Fernet
    re.IGNORECASE,
)
# 32 random bytes in base64url: refresh tokens, tickets, codes. Ids have 22 characters.
_LONG = re.compile(r"(?<![A-Za-z0-9_-])(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{40,}")
_LOCAL = r"[\w.!#$%&'+=?^`{|}~-]"
# user@host in a database URL is not an e-mail address.
_NO_URL = "".join(f"(?<!{scheme}://)" for scheme in ("postgresql", "redis", "rediss", "smtp"))
_EMAIL = re.compile(rf"(?<!{_LOCAL}){_NO_URL}{_LOCAL}+(?:@|%40)\w[\w.-]*")
_QUERY = re.compile(r"(?<=[\w/%.~-])[?#](?=[^\s'\"<>)]*=|[^\s'\"<>)]{16})[^\s'\"<>)]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUOTED = re.compile(r"[:'\"]")
_NUMBER = re.compile(r"\d+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Text without tokens, e-mail addresses and query strings.

    Args:
        secrets: values that are always masked.
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _QUERY.sub(QUERY, text)
    return _EMAIL.sub(EMAIL, _LONG.sub(HIDDEN, _SECRET.sub(HIDDEN, text)))


class Writer:
    """Writes lines in a separate thread, in order.

    Args:
        stream: the output, usually stderr.
        number: of this process, if several write to the stream. Each line then begins with `[2] `,
            or as JSON with the member `process`.
    """

    def __init__(self, stream: TextIO, number: int | None = None) -> None:
        self._stream, self._number = stream, number
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._process = 0

    def write(self, lines: str) -> None:
        """Queue one or more whole lines. Never waits."""
        if self._thread is None or self._process != os.getpid():  # a fork leaves threads behind
            self._process = os.getpid()
            self._thread = threading.Thread(target=self._run, name="usher-log", daemon=True)
            self._thread.start()
        try:
            self._lines.put_nowait(lines)
        except queue.Full:
            self._dropped += 1

    def _run(self) -> None:
        while (lines := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            try:
                self._stream.write(lines if self._number is None else _named(lines, self._number))
                if dropped:
                    self._stream.write(f"usher: {dropped} lines of the log could not be written\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                continue  # stderr is closed, so this cannot be reported

    def close(self) -> None:
        """Write the queued lines, for at most two seconds."""
        thread, self._thread = self._thread, None
        if thread is not None and self._process == os.getpid():
            try:
                self._lines.put(None, timeout=CLOSE_SECONDS)
            except queue.Full:
                return
            thread.join(CLOSE_SECONDS)


def _named(lines: str, number: int) -> str:
    """The same lines with the number of the process in front of each."""
    return "".join(
        f'{{"process":{number},{line[1:]}\n' if line.startswith("{") else f"[{number}] {line}\n"
        for line in lines.removesuffix("\n").split("\n")
    )


@dataclass
class _Window:
    """How often a repeated line was suppressed: `count` times since `began`."""

    began: float
    seconds: float
    count: int = 0
    burst: int = 0
    record: logging.LogRecord | None = None


class LogHandler(logging.Handler):
    """The handler of the root logger.

    Args:
        writer: writes the lines.
        log_format: "text" or "json".
        secrets: values that are hidden wherever they stand.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        writer: Writer,
        log_format: str = "text",
        secrets: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.writer = writer
        self._secrets = tuple(sorted(secrets, key=len, reverse=True))
        self._clock = clock
        self._windows: dict[tuple[object, ...], _Window] = {}
        self.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())

    def hide(self, secrets: Iterable[str]) -> None:
        """Add values to mask."""
        self._secrets = tuple(sorted({*self._secrets, *secrets}, key=len, reverse=True))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it if it is a repetition."""
        place = (record.name, record.levelno, str(record.msg))
        self._redact(record)
        for line in (*self._expired_counts(), *self._admitted(record, place)):
            self.writer.write(self.format(line) + "\n")

    async def report_repeated(self) -> None:
        """Write the counts of repeated lines that are due. Call it periodically. Never waits."""
        self._flush_counts()

    def _flush_counts(self) -> None:
        self.acquire()
        try:
            for record in self._expired_counts():
                self.writer.write(self.format(record) + "\n")
        finally:
            self.release()

    def close(self) -> None:
        """Write all counts of repeated lines, and the queued lines."""
        for window in self._windows.values():
            window.seconds = 0.0
        self._flush_counts()
        self.writer.close()
        super().close()

    def _redact(self, record: logging.LogRecord) -> None:
        if record.name.startswith("tornado") and isinstance(record.args, tuple):
            # It quotes what it could not parse: a header, with whatever was in it.
            record.args = tuple(
                _QUOTED.split(str(a), maxsplit=1)[0].strip() if isinstance(a, Exception) else a
                for a in record.args
            )
        text = redact(record.getMessage(), self._secrets)
        record.msg, record.args = _CONTROL.sub(_escaped, text), None
        if record.exc_info:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_info = None
        if record.exc_text:
            shown = redact(record.exc_text, self._secrets)
            record.exc_text = _CONTROL_BUT_LINES.sub(_escaped, shown)
        record.stack_info = None

    def _admitted(
        self, record: logging.LogRecord, place: tuple[object, ...]
    ) -> Iterator[logging.LogRecord]:
        same = (*place, _NUMBER.sub("#", str(record.msg)))
        if (window := self._windows.get(same)) is None:
            window = self._windows.get(place) or self._open(place, FIRST_WINDOW_SECONDS)
            window.burst += 1
            if window.burst <= BURST:
                if record.levelno >= logging.WARNING:
                    self._open(same, FIRST_WINDOW_SECONDS)
                yield record
                return
        window.count, window.record = window.count + 1, record

    def _open(self, key: tuple[object, ...], seconds: float) -> _Window:
        while len(self._windows) >= MAX_KEYS:  # the oldest, whose count is lost with it
            del self._windows[next(iter(self._windows))]
        window = self._windows[key] = _Window(self._clock(), seconds)
        return window

    def _expired_counts(self) -> Iterator[logging.LogRecord]:
        """The counts of expired windows."""
        now = self._clock()
        for key, window in tuple(self._windows.items()):
            if now - window.began < window.seconds:
                continue
            del self._windows[key]
            if window.record is not None:
                said = logging.makeLogRecord(vars(window.record))
                seconds = max(1, round(now - window.began))
                said.msg = f"{said.msg} (and {window.count} more like it in {seconds} s)"
                said.exc_text = None
                yield said
                # The longer the repetition lasts, the more rarely it is logged.
                longer = max(FIRST_WINDOW_SECONDS, window.seconds * 2)
                self._open(key, min(longer, LAST_WINDOW_SECONDS))


class TextFormatter(logging.Formatter):
    """`2026-11-27 21:00:00,123 INFO usher.http: …`, with the local time."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


class JsonFormatter(logging.Formatter):
    """One object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        return msgspec.json.encode(line).decode()


def utc(seconds: float) -> str:
    """RFC 3339 with milliseconds."""
    shown = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
    return shown.removesuffix("+00:00") + "Z"


def set_up_logging(handler: logging.Handler) -> None:
    """Install the handler for the root logger, and for errors that Python writes to stderr."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    log = logging.getLogger("usher")

    def uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.critical("stopped by an error", exc_info=(kind, error, trace))

    def unraisable(seen: sys.UnraisableHookArgs) -> None:
        error = seen.exc_value
        trace = (type(error), error, seen.exc_traceback) if error is not None else None
        log.error("%s %r", seen.err_msg or "exception ignored in", seen.object, exc_info=trace)

    def in_thread(seen: threading.ExceptHookArgs) -> None:
        error = seen.exc_value
        trace = (type(error), error, seen.exc_traceback) if error is not None else None
        log.error("a thread ended by an error", exc_info=trace)

    sys.excepthook = uncaught
    sys.unraisablehook = unraisable
    threading.excepthook = in_thread


def _escaped(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]
