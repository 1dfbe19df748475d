"""oidc-provider-mock in a process of its own: a provider with a page, for people to click on."""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.server import PATIENCE

STYLES = "https://cdn.jsdelivr.net/**"
"""Where its page has its style sheet from: not to be waited for, on a machine without a network."""


class PracticeProvider:
    """The provider, running. Anybody is somebody there, by whatever `sub` they type; that is
    their e-mail address too.

    Attributes:
        issuer: by another name of this machine than Usher's: to a browser it is another site.
        output: what it wrote so far.
    """

    def __init__(self) -> None:
        self.output: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "oidc_provider_mock", "--port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        try:
            port = ready.get(timeout=PATIENCE)
        except queue.Empty:
            port = ""
        if not port:
            self.close()
            raise AssertionError("it did not start:\n" + "".join(self.output))
        self.issuer = f"http://localhost:{port}"

    def _read(self, ready: queue.Queue[str]) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.output.append(line)
            if match := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                ready.put(match[1])
        ready.put("")

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=PATIENCE)
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextmanager
def practice_provider() -> Iterator[PracticeProvider]:
    """The provider for some tests."""
    running = PracticeProvider()
    try:
        yield running
    finally:
        running.close()


def settings_for(practice: PracticeProvider) -> dict[str, str]:
    """Usher's settings for the provider, which accepts any client."""
    return {
        "OAUTH_PROVIDERS": "practice",
        "OAUTH_PRACTICE_ISSUER": practice.issuer,
        "OAUTH_PRACTICE_CLIENT_ID": "usher",
        "OAUTH_PRACTICE_CLIENT_SECRET": "a secret of the practice provider",
    }
