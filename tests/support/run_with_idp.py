"""What `make run-with-idp` runs, and the way that a browser goes through it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it has no types of its own
import requests

from tests.support.server import PATIENCE, ROOT, free_port, wait_until


class Practice:
    """Usher and the practice provider, on free ports and in a folder of their own.

    Args:
        flags: for server.py.
        environ: in the place of what it would be started with.
    """

    def __init__(self, folder: Path, *flags: str, **environ: str) -> None:
        own = {
            "PRACTICE_PORT": str(free_port()),
            "USHER_PORT": "0",
            "USHER_DATA_DIR": str(folder / "data"),
            "no_proxy": "*",
        }
        outer = {name: text for name, text in os.environ.items() if not name.startswith("USHER_")}
        self.environment = {**outer, **own, **environ}
        self._screen = folder / "screen"
        with self._screen.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "practice_provider.py"), *flags],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def screen(self) -> str:
        """What it wrote so far, stdout and stderr."""
        return self._screen.read_text("utf-8")

    def started(self) -> str:
        """Wait for the start screen; returns the address on it."""
        wait_until(lambda: "Stop with" in self.screen or self.process.poll() is not None)
        found = re.search(r"^  Open +(\S+)$", self.screen, re.MULTILINE)
        assert found is not None, self.screen
        return found[1]

    def running(self) -> list[psutil.Process]:
        """All that it has started."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def child(self, name: str) -> psutil.Process:
        """The process whose command line has this in it."""
        [found] = [one for one in self.running() if name in " ".join(one.cmdline())]
        return found

    def ended(self, status: int) -> None:
        """Wait until it has ended, so."""
        assert self.process.wait(timeout=PATIENCE) == status, self.screen
        assert "Traceback" not in self.screen


@contextmanager
def practice(folder: Path, *flags: str, **environ: str) -> Iterator[Practice]:
    """Both for one test, and afterwards nothing of them."""
    both = Practice(folder, *flags, **environ)
    try:
        yield both
    finally:
        if both.process.poll() is None:
            both.process.send_signal(signal.SIGTERM)
            both.process.wait(timeout=PATIENCE)


class Browser:
    """A browser that goes from page to page, and keeps its cookies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, path: str) -> requests.Response:
        """A page here; a redirect is not followed."""
        return self._session.get(self.url + path, timeout=PATIENCE, allow_redirects=False)

    def to_provider(self) -> str:
        """Click the button. Returns the address of the provider's page."""
        listed = self.get("/api/oauth/providers").json()["items"]
        [button] = [item for item in listed if item["name"] == "practice"]
        assert button["title"] == "Practice provider"
        there = _redirected(self.get(button["login_url"]))
        if there.endswith(button["login_url"]):
            # From localhost to the name that the provider leads back to; it goes on there.
            self.url = there.removesuffix(button["login_url"])
            there = _redirected(self.get(button["login_url"]))
        return there

    def choose(self, page: str, form: dict[str, str]) -> requests.Response:
        """Press a button of the provider's page; returns the page here that it ends on."""
        there = self._session.get(page, timeout=PATIENCE)
        [(name, value)] = form.items()
        assert f'name="{name}" value="{value}"' in there.text
        back = _redirected(
            self._session.post(page, data=form, timeout=PATIENCE, allow_redirects=False)
        )
        assert back.startswith(f"{self.url}/oauth/practice/callback?")
        return self._session.get(back, timeout=PATIENCE, allow_redirects=False)

    def sign_in(self, person: str) -> dict[str, str]:
        """The whole way; returns who is signed in then."""
        ends_on = _redirected(self.choose(self.to_provider(), {"sub": person}))
        assert ends_on == "/"
        assert "<title>Usher</title>" in self.get(ends_on).text
        answer = self.get("/api/auth/me")
        assert answer.status_code == 200, answer.text
        me: dict[str, str] = answer.json()
        return me


def _redirected(answer: requests.Response) -> str:
    assert answer.status_code == 302, (answer.status_code, answer.text)
    return answer.headers["Location"]
