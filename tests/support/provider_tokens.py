"""ID tokens and logout tokens as the tests' OpenID provider makes them, good and bad."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tests.support.provider_keys import LEFT_OUT, Signer, Signing, half_hash

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
OTHER_ISSUER = "https://other-provider.test"
HOUR = 3600

Claims = Mapping[str, Any]

_OTHER_CLAIMS: Mapping[str, Callable[[Claims], dict[str, object]]] = {
    "nonce_wrong": lambda _: {"nonce": "the-nonce-of-another-login"},
    "nonce_missing": lambda _: {"nonce": LEFT_OUT},
    "aud_wrong": lambda _: {"aud": "another-client"},
    "aud_missing": lambda _: {"aud": LEFT_OUT},
    "aud_several": lambda good: {"aud": [good["aud"], "another-client"]},
    "aud_several_azp_wrong": lambda good: {
        "aud": [good["aud"], "another-client"],
        "azp": "another-client",
    },
    "azp_wrong": lambda _: {"azp": "another-client"},
    "iss_other": lambda _: {"iss": OTHER_ISSUER},
    "iss_missing": lambda _: {"iss": LEFT_OUT},
    "expired": lambda good: {"iat": good["iat"] - 2 * HOUR, "exp": good["iat"] - HOUR},
    "exp_missing": lambda _: {"exp": LEFT_OUT},
    "iat_future": lambda good: {"iat": good["iat"] + 24 * HOUR, "exp": good["iat"] + 25 * HOUR},
    "iat_missing": lambda _: {"iat": LEFT_OUT},
    "sub_missing": lambda _: {"sub": LEFT_OUT},
    "sub_empty": lambda _: {"sub": ""},
    "sub_not_text": lambda _: {"sub": 4711},
    "sub_long": lambda _: {"sub": "s" * 256},
    "sub_changed": lambda _: {"sub": "somebody-else"},
    "at_hash_wrong": lambda _: {"at_hash": half_hash("another access token")},
    "aud_list": lambda good: {"aud": [good["aud"]]},
    "aud_several_azp_right": lambda good: {
        "aud": ["another-client", good["aud"]],
        "azp": good["aud"],
    },
    "azp_right": lambda good: {"azp": good["aud"]},
    "at_hash_missing": lambda _: {"at_hash": LEFT_OUT},
    "tid_missing": lambda _: {"tid": LEFT_OUT},
    "tid_other": lambda _: {"tid": "00000000-0000-4000-8000-000000000000"},
    "tid_not_guid": lambda good: {
        "tid": "common",
        "iss": str(good["iss"]).replace(str(good["tid"]), "common"),
    },
}

_OTHER_HEADERS: Mapping[str, dict[str, object]] = {
    "kid_unknown": {"kid": "nobody"},
    "kid_missing": {"kid": LEFT_OUT},
    "typ_missing": {"typ": LEFT_OUT},
    "typ_logout": {"typ": "logout+jwt"},
}

_OTHER_SIGNERS: Mapping[str, Signer] = {
    "alg_none": "none",
    "alg_hs256_pem": "pem",
    "alg_hs256_raw": "raw",
    "alg_hs256_client_secret": "client_secret",
    "alg_hs256_oct": "oct",
    "key_of_another": "foreign",
    "jwk_embedded": "jwk_embedded",
    "jku": "jku",
}


def id_token(signing: Signing, good: Claims, faults: Collection[str]) -> str:
    """An ID token of these claims, with all of these faults in it.

    Args:
        good: complete and right.
    """
    if "garbage" in faults:
        return "this.is.no-token"
    claims, header = dict(good), dict[str, object]()
    signer: Signer = "honest"
    for name in sorted(faults):
        if name in _OTHER_CLAIMS:
            claims |= _OTHER_CLAIMS[name](good)
        header |= _OTHER_HEADERS.get(name, {})
        signer = _OTHER_SIGNERS.get(name, signer)
    return signing.token(header, claims, signer)


def logout_token(
    signing: Signing,
    claims: Claims,
    header: Mapping[str, object] | None = None,
    signer: Signer = "honest",
) -> str:
    """A logout token (OIDC Back-Channel Logout 1.0 section 2.4).

    Args:
        claims: iss, aud, sub, sid; they are written over the usual ones. LEFT_OUT removes one.
        header: the same for the header.
    """
    now = int(time.time())
    usual = {
        "iat": now,
        "exp": now + 120,
        "jti": secrets.token_urlsafe(12),
        "events": {LOGOUT_EVENT: {}},
    }
    return signing.token({"typ": "logout+jwt", **(header or {})}, {**usual, **claims}, signer)
