"""A native app's part of a sign-in: PKCE, the request, and what came back (RFC 7636, RFC 8252)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.support.server import Answer, Client, Usher

LOOPBACK = "http://127.0.0.1:49152/callback"


@dataclass
class App:
    """An app that asks for a sign-in. What it asks with can be changed before it asks."""

    server: Usher
    uri: str = LOOPBACK
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def query(self) -> dict[str, str]:
        """What it asks for."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return {
            "client": "native",
            "redirect_uri": self.uri,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    def at(self, path: str, **changes: str) -> str:
        """A path with its query."""
        return f"{path}?{urlencode({**self.query, **changes})}"

    def said(self, location: str) -> dict[str, str]:
        """What an answer at its redirect URI says, its own state checked."""
        assert location.startswith(self.uri + "?"), location
        found = parse_qs(urlsplit(location).query, strict_parsing=True)
        assert all(len(values) == 1 for values in found.values())
        said = {name: values[0] for name, values in found.items()}
        assert said.pop("state") == self.state
        assert said.pop("iss") == self.server.origin
        return said

    def exchange(self, code: str, **changes: str) -> Answer:
        """Exchange a code."""
        body = {"code": code, "code_verifier": self.verifier, "redirect_uri": self.uri}
        return Client(self.server).post("/api/auth/exchange", {**body, **changes})

    def code_from(self, browser: Client) -> str:
        """The code that the bundled page asks for, in a browser that is signed in."""
        answer = browser.post("/api/auth/native-code", self.query)
        assert answer.status == 200, answer
        [(name, code)] = self.said(answer.body["location"]).items()
        assert name == "code"
        return code
