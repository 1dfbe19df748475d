"""An authenticator app in a test's hand: a secret from the server, and codes that were not used."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyotp

from tests.support.server import PASSWORD, Client
from tests.support.soft_passkey import SoftPasskey

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


def step_up(client: Client, code: str) -> None:
    """Prove again who somebody is, for an act that asks for it."""
    done = client.post("/api/auth/step-up", {"code": code})
    assert done.status == 200, done.text
    client.token = done.body.get("access_token", client.token)
    client.refresh_token = done.body.get("refresh_token", client.refresh_token)


def second_factors(nobody: Client, client: Client, email: str) -> None:
    """Every call about an authenticator app once, and what each refuses.

    Args:
        nobody: a client without an account.
        client: somebody who is signed in.
    """
    app = set_up(client)
    body = {"email": email, "password": PASSWORD, "client": "native"}
    asked = nobody.post("/api/auth/login", body)
    assert (asked.status, asked.body["code"]) == (401, "second_factor_needed")
    answer = {"challenge": asked.body["challenge"], "code": "000000"}
    assert nobody.post("/api/auth/second-factor", answer).status == 401
    right = answer | {"code": app.recovery_code()}
    assert nobody.post("/api/auth/second-factor", right).status == 200
    assert client.post("/api/auth/totp").status == 401
    step_up(client, app.recovery_code())
    assert client.post("/api/auth/totp").status == 409
    assert client.get("/api/auth/totp").status == 200
    passkeys(nobody, client)
    assert client.post("/api/auth/totp/recovery-codes").status == 200
    assert client.call("DELETE", "/api/auth/totp").status == 204
    assert client.call("DELETE", "/api/auth/totp").status == 404


def passkeys(nobody: Client, client: Client) -> None:
    """Every call about passkeys once."""
    key = SoftPasskey(f"http://localhost:{client.server.port}")
    options = client.post("/api/auth/passkeys/options").body["publicKey"]
    made = client.post("/api/auth/passkeys", {"credential": key.create(options)})
    assert made.status == 201
    assert client.get("/api/auth/passkeys").body["items"] == [made.body]
    asked = nobody.post("/api/auth/passkey/options").body["publicKey"]
    body = {"credential": key.get(asked), "client": "native"}
    assert nobody.post("/api/auth/passkey/login", body).status == 200
    assert nobody.post("/api/auth/passkey/login", body).status == 401
    path = f"/api/auth/passkeys/{made.body['id']}"
    assert client.call("PATCH", path, {"name": "Blue"}).status == 200
    assert client.call("DELETE", path).status == 204
    assert client.call("DELETE", path).status == 404


def lost_factors(admin: Client, client: Client) -> None:
    """An administrator takes the factors of somebody away."""
    set_up(client)
    path = f"/api/admin/users/{client.user['id']}/factors"
    assert client.call("DELETE", path).status == 403
    assert admin.call("DELETE", path).status == 204
