"""The kit's OpenID provider, to sign in with and to log out at.

It has one client and signs everybody in at once, as the user that the case wants. It implements
what an authorization code flow with PKCE needs: discovery, keys, codes, tokens and userinfo.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from conformance.target import ProviderSettings
from conformance.verdict import Broken, same

Json = dict[str, Any]
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
TOKEN_SECONDS = 300
FORGED = "with a foreign signature"
FLAWS: Mapping[str, Json] = {
    FORGED: {},
    "for another client": {"aud": "somebody-else"},
    "of another issuer": {"iss": "https://foreign.invalid"},
    "with a nonce": {"nonce": "an ID token has one, a logout token must not"},
    "without its event": {"events": {}},
    "that has expired": {"iat": 1_000_000_000, "exp": 1_000_000_300},
}
"""What may be wrong with a logout token, and the claims that make it so (section 2.6)."""


class Provider:
    """The provider, as the thread of its server and the cases use it.

    Args:
        settings: as the server under test is configured.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self._foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.change_key()
        self._codes: dict[str, Json] = {}
        self._access: dict[str, Json] = {}

    def change_key(self) -> None:
        """Sign with a new key, as another run does. A server that caches keys has to notice."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_id = secrets.token_hex(8)

    # ---- for cases -------------------------------------------------------------------------

    def authorize(self, location: str, subject: str, email: str) -> tuple[str, str]:
        """What a browser does here for a user who says yes.

        Args:
            location: the authorization request that the server under test redirected to.

        Returns:
            The redirect URI with the response in its query, and the `sid` of the session.

        Raises:
            Broken: the request is not what OpenID Connect and the contract ask for.
        """
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        same(query.get("response_type"), "code", "response_type of the authorization request")
        same(query.get("client_id"), self.settings.client_id, "client_id of the request")
        same(query.get("code_challenge_method"), "S256", "code_challenge_method of the request")
        if "redirect_uri" not in query or "code_challenge" not in query or "state" not in query:
            raise Broken("the authorization request lacks redirect_uri, code_challenge or state")
        code, sid = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        claims = {"sub": subject, "email": email, "email_verified": True, "name": "Conformance"}
        self._codes[code] = {
            "challenge": query["code_challenge"],
            "claims": claims,
            "id": {**claims, "sid": sid, "nonce": query.get("nonce")},
        }
        answer = {"code": code, "state": query["state"], "iss": self.settings.issuer}
        return f"{query['redirect_uri']}?{urlencode(answer)}", sid

    def logout_token(self, subject: str, sid: str | None, flaw: str = "") -> str:
        """A logout token (OIDC Back-Channel Logout 1.0 section 2.4).

        Args:
            sid: of the session; None: all sessions of the subject.
            flaw: one of FLAWS, or none.
        """
        claims: Json = {
            "sub": subject,
            "jti": secrets.token_urlsafe(12),
            "events": {LOGOUT_EVENT: {}},
        }
        if sid is not None:
            claims["sid"] = sid
        claims |= FLAWS.get(flaw, {})
        return self._signed(claims, "logout+jwt", self._foreign if flaw == FORGED else self._key)

    # ---- for the server --------------------------------------------------------------------

    def get(self, path: str, bearer: str) -> tuple[int, Json]:
        """Discovery, keys and userinfo."""
        if path.endswith("/.well-known/openid-configuration"):
            return 200, self._metadata()
        if path.endswith("/jwks"):
            public = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
            return 200, {"keys": [{**public, "kid": self._key_id, "use": "sig", "alg": "RS256"}]}
        if path.endswith("/userinfo") and bearer in self._access:
            return 200, self._access[bearer]
        return 404, {"error": "not_found"}

    def post(self, path: str, form: dict[str, str]) -> tuple[int, Json]:
        """The token endpoint."""
        grant = self._codes.pop(form.get("code", ""), None)
        if not path.endswith("/token") or grant is None:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != grant["challenge"]:
            return 400, {"error": "invalid_grant"}
        access = secrets.token_urlsafe(24)
        self._access[access] = grant["claims"]
        return 200, {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "id_token": self._signed(grant["id"], "JWT", self._key),
        }

    def _metadata(self) -> Json:
        issuer = self.settings.issuer
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "jwks_uri": f"{issuer}/jwks",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }

    def _signed(self, claims: Json, kind: str, key: rsa.RSAPrivateKey) -> str:
        now = int(time.time())
        times = {"iat": now, "exp": now + TOKEN_SECONDS}
        parties = {"iss": self.settings.issuer, "aud": self.settings.client_id}
        header = {"kid": self._key_id, "typ": kind}
        return jwt.encode({**parties, **times, **claims}, key, "RS256", headers=header)


@contextmanager
def running(settings: ProviderSettings) -> Iterator[Provider]:
    """The provider, listening until the end of `with`.

    Args:
        settings: with port 0, the system chooses one; without an issuer, it is the URL of the port.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            _, _, bearer = self.headers.get("Authorization", "").partition(" ")
            self._answer(*provider.get(urlsplit(self.path).path, bearer))

        def do_POST(self) -> None:
            sent = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 65536))
            form = {name: values[0] for name, values in parse_qs(sent.decode()).items()}
            self._answer(*provider.post(urlsplit(self.path).path, form))

        def _answer(self, status: int, body: Json) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing: requests have codes and tokens."""

    with ThreadingHTTPServer((settings.host, settings.port), Handler) as server:
        port = server.server_address[1]
        issuer = settings.issuer or f"http://{settings.host}:{port}"
        provider = Provider(replace(settings, port=port, issuer=issuer))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
