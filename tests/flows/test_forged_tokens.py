"""Forged tokens: refused by every method, without a word about what was wrong."""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import Any

import jwt
import pytest

from tests.flows.target import ada, target
from tests.support.raw import (
    SECRET,
    RawClient,
    by_header,
    by_subprotocol,
    claims_of,
    ending_of,
    event,
    forged,
    handshake,
    joined,
)
from tests.support.server import Client, Usher

__all__ = ["ada", "target"]


def segments(header: Any, payload: Any, signature: str = "") -> str:
    def encoded(part: Any) -> str:
        text = part if isinstance(part, bytes) else json.dumps(part).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    return f"{encoded(header)}.{encoded(payload)}.{signature}"


def signed(header: Any, payload: Any, secret: str = SECRET) -> str:
    """A token signed with the real secret, whatever stands in it."""
    unsigned = segments(header, payload).rpartition(".")[0]
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    mac = key.sign(unsigned.encode(), secret.encode())
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def forgeries(token: str) -> dict[str, str]:
    """Tokens that must not open anything, by what is wrong with them."""
    header, payload = jwt.get_unverified_header(token), claims_of(token)
    now, other = time.time(), secrets.token_urlsafe(16)
    head, body, tail = token.split(".")
    swapped = signed({**header, "kid": "another-key-0000"}, payload)
    twin = signed({**header, "kid": header["kid"]}, payload, "y" * 40)
    return {
        "alg none": segments({**header, "alg": "none"}, payload),
        "alg None": segments({**header, "alg": "None"}, payload, "x"),
        "alg none, signed": signed({**header, "alg": "none"}, payload),
        "alg HS512": jwt.encode(payload, SECRET * 2, "HS512", headers=header),
        "alg HS384, signed by HS256": signed({**header, "alg": "HS384"}, payload),
        "alg RS256": signed({**header, "alg": "RS256"}, payload),
        "no alg": signed({k: v for k, v in header.items() if k != "alg"}, payload),
        "typ JWT": forged(token, headers={"typ": "JWT"}),
        "typ rt+jwt": forged(token, headers={"typ": "rt+jwt"}),
        "no typ": signed({"alg": "HS256", "kid": header["kid"]}, payload),
        "wrong aud": forged(token, aud="somebody"),
        "aud as a list": forged(token, aud=[payload["aud"]]),
        "no aud": forged(token, aud=None),
        "wrong iss": forged(token, iss="https://evil.example"),
        "no iss": forged(token, iss=None),
        "wrong secret": forged(token, secret="z" * 40),
        "empty secret": signed(header, payload, ""),
        "unknown kid": swapped,
        "own kid, other secret": twin,
        "kid of a path": signed({**header, "kid": "../../dev/null"}, payload, ""),
        "kid of SQL": signed({**header, "kid": "' OR 1=1 --"}, payload),
        "jku": signed({**header, "jku": "https://evil.example/keys"}, payload),
        "jwk": signed({**header, "jwk": {"kty": "oct", "k": "eHh4"}}, payload),
        "crit": signed({**header, "crit": ["exp"]}, payload),
        "from the future": forged(token, iat=now + 3600, exp=now + 3700),
        "not before": forged(token, nbf=now + 3600),
        "lives too long": forged(token, exp=now + 10 * 365 * 86400),
        "no exp": forged(token, exp=None),
        "exp as text": forged(token, exp=str(payload["exp"])),
        "exp true": forged(token, exp=True),
        "exp without end": signed(header, json.dumps(payload | {"exp": 1e308}).encode()),
        "exp NaN": signed(header, json.dumps(payload | {"exp": float("nan")}).encode()),
        "no sub": forged(token, sub=None),
        "no sid": forged(token, sid=None),
        "no jti": forged(token, jti=None),
        "sub of Redis": forged(token, sub="x}:sockets"),
        "sub with a line": forged(token, sub="x\r\nSET a b"),
        "sid of Redis": forged(token, sid="*"),
        "sub as a number": signed(header, payload | {"sub": 1}),
        "unknown user": forged(token, sub=other),
        "unknown session": forged(token, sid=other),
        "unknown user and session": forged(token, sub=other, sid=other),
        "another role": forged(token, role="user" if payload["role"] == "admin" else "admin"),
        "a role that is none": forged(token, role="root"),
        "tampered payload": f"{head}.{body[:-6]}AAAAAA.{tail}",
        "tampered signature": f"{head}.{body}.{'A' * 43}",
        "other spelling of the signature": f"{head}.{body}.{tail[:-1]}{_neighbour(tail[-1])}",
        "padded": f"{token}=",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{token}.x",
        "empty": "",
        "dots": "..",
        "huge": forged(token, extra="x" * 3500),
        "garbage": secrets.token_urlsafe(300),
        "payload a list": signed(header, [1]),
        "payload no JSON": signed(header, b"{"),
        "header no JSON": signed(b"\xff\xfe", payload),
        "deep": signed(header, b'{"a":' * 400 + b"1" + b"}" * 400),
    }


def _neighbour(letter: str) -> str:
    """A letter that decodes to the same 4 bits, where the last two do not count."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) ^ 1]


NAMES = sorted(
    forgeries(
        forged(
            jwt.encode({"role": "user", "exp": 9e9, "aud": "usher"}, SECRET, headers={"kid": "k"})
        )
    )
)


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_token_is_refused_by_every_method(target: Usher, ada: Client, name: str) -> None:
    token = forgeries(str(ada.token))[name]
    with RawClient(target) as client:
        client.send(handshake("/ws", by_header(token)))
        response = client.response()
        assert response.status == 401
        # The same words, whatever was wrong.
        assert response.problem == {
            "status": 401,
            "title": "Sign in to continue.",
            "code": "unauthenticated",
        }
    if " " not in token and "," not in token:
        assert ending_of(target, by_subprotocol(token)).code == 4401
    cookie = [("Cookie", f"access_token={token or 'x'}"), ("Origin", target.url)]
    assert ending_of(target, cookie).code == 4401
    if len(token) < 4000:
        assert ending_of(target, target=f"/ws?ticket={token}").code == 4401
    end = ending_of(target, then=event("user-join", 1, {"auth": {"token": token}}))
    assert end.code == 4401
    assert end.events[0]["error"]["code"] == "unauthenticated"


def test_a_forged_token_does_not_take_over_an_open_socket(target: Usher, ada: Client) -> None:
    with joined(target, by_header(ada.token)) as client:
        for name, token in forgeries(str(ada.token)).items():
            reply = client.ask("token-refresh", {"token": token})
            expected = ("unauthenticated", "identity_mismatch")
            assert reply["ok"] is False, name
            assert reply["error"]["code"] in expected, name
        client.lives()


@pytest.mark.parametrize("length", [4097, 8000, 60_000])
def test_a_huge_token_costs_no_more_than_a_refusal(target: Usher, ada: Client, length: int) -> None:
    token = "a" * length
    with joined(target, by_header(ada.token)) as client:
        refused = client.ask("token-refresh", {"token": token})
        assert refused["error"]["code"] == "unauthenticated"
    then = event("user-join", None, {"auth": {"token": token}})
    assert ending_of(target, then=then).code == (4401 if length < 8100 else 1009)
    assert ending_of(target, target="/ws?ticket=t." + "a" * 3900).code == 4401


def test_a_genuine_token_is_still_taken(target: Usher, ada: Client) -> None:
    """Else all of the above would prove nothing."""
    with joined(target, by_header(forged(ada.token))) as client:
        assert client.joined["user"]["id"] == ada.user["id"]
