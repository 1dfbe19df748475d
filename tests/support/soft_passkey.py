"""An authenticator in software (WebAuthn Level 2): ES256, attestation `none`, a resident key.

For what a real browser does not do: counters that go back, other origins, broken members. What
browsers do has its tests with Chromium's own authenticator.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

Json = dict[str, Any]
PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, WITH_KEY = 0x01, 0x04, 0x08, 0x10, 0x40


@dataclass
class SoftPasskey:
    """One credential.

    Attributes:
        counter: of the next signature; 0 for an authenticator that has none.
        verifies: whether it verifies its user.
        synced: whether it may be backed up.
    """

    origin: str
    counter: int = 0
    verifies: bool = True
    synced: bool = False
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    rp_id: str = ""
    user_handle: bytes = b""

    def create(self, options: Json, **client_data: Any) -> Json:
        """As `navigator.credentials.create()`."""
        self.rp_id = options["rp"]["id"]
        self.user_handle = base64url_to_bytes(options["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
        public = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})
        attested = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + public
        data = self._data(WITH_KEY) + attested
        statement = {"fmt": "none", "attStmt": {}, "authData": data}
        said = self._said("webauthn.create", options, client_data)
        return self._credential(said, {"attestationObject": _text(cbor2.dumps(statement))})

    def get(self, options: Json, **client_data: Any) -> Json:
        """As `navigator.credentials.get()`."""
        data, said = self._data(), self._said("webauthn.get", options, client_data)
        signed = data + hashlib.sha256(said).digest()
        response = {
            "authenticatorData": _text(data),
            "signature": _text(self.key.sign(signed, ec.ECDSA(SHA256()))),
            "userHandle": _text(self.user_handle),
        }
        return self._credential(said, response)

    def _data(self, flags: int = 0) -> bytes:
        flags |= PRESENT | (VERIFIED if self.verifies else 0)
        flags |= (ELIGIBLE | BACKED_UP) if self.synced else 0
        return (
            hashlib.sha256(self.rp_id.encode()).digest()
            + bytes([flags])
            + self.counter.to_bytes(4, "big")
        )

    def _said(self, type_: str, options: Json, more: Json) -> bytes:
        said = {"type": type_, "challenge": options["challenge"], "origin": self.origin} | more
        return json.dumps(said).encode()

    def _credential(self, said: bytes, response: Json) -> Json:
        return {
            "id": _text(self.id),
            "rawId": _text(self.id),
            "type": "public-key",
            "clientExtensionResults": {},
            "response": {"clientDataJSON": _text(said), **response},
        }


def _text(data: bytes) -> str:
    return bytes_to_base64url(data)
