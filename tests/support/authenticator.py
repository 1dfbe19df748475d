"""An authenticator app in a test's hand: a secret from the server, and codes that were not used."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyotp

from tests.support.server import Client

STEP = 30


@dataclass
class App:
    """Attributes:
    codes: recovery codes that are left.
    used: the time step of the newest code that was given out.
    """

    totp: pyotp.TOTP
    codes: list[str]
    used: int = 0

    def code(self) -> str:
        """A code that the server takes now: of this step, or of the next one where this one's is
        used. Waits for the step after it where that is used, too."""
        while self.used > self._step():
            time.sleep(0.5)
        self.used = max(self.used + 1, self._step())
        return self.totp.at(self.used * STEP)

    def recovery_code(self) -> str:
        return self.codes.pop()

    @staticmethod
    def _step() -> int:
        return int(time.time()) // STEP


def set_up(client: Client) -> App:
    """Give somebody who is signed in an authenticator app."""
    made = client.post("/api/auth/totp")
    assert made.status == 201, made.text
    app = App(pyotp.TOTP(made.body["secret"]), [])
    done = client.post("/api/auth/totp/confirm", {"code": app.code()})
    assert done.status == 200, done.text
    app.codes = done.body["recovery_codes"]
    return app
