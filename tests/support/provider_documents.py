"""The two documents of the tests' OpenID provider: its metadata and its key set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tests.support.http_answers import Reply, as_json
from tests.support.http_service import Seen
from tests.support.provider_keys import FOREIGN, LEFT_OUT, Key, hmac_jwk
from tests.support.provider_state import State
from tests.support.provider_tokens import OTHER_ISSUER

_LEADING = ("token_endpoint", "jwks_uri", "userinfo_endpoint")
_ODD_KEYS: tuple[dict[str, Any], ...] = (
    {"kty": "RSA", "use": "sig", "kid": "broken", "n": "!", "e": "AQAB"},
    {"kty": "AKP", "use": "sig", "kid": "of-tomorrow", "alg": "ML-DSA-65", "pub": "AAAA"},
    {"kty": "EC", "crv": "P-521", "kid": "half"},
    {},
)


def discovery(op: State, seen: Seen, faults: Collection[str]) -> Reply:
    """OpenID Connect Discovery 1.0 section 3."""
    content = {**_metadata(op), **_other_metadata(op, faults), **op.metadata_claims}
    return _cached(without(content), op.discovery_cache)


def jwks(op: State, seen: Seen, faults: Collection[str]) -> Reply:
    """RFC 7517 section 5."""
    mine = [_published(op, key) for key in op.keys]
    if "no_alg" in faults:
        mine = [{name: value for name, value in key.items() if name != "alg"} for key in mine]
    if "only_others" in faults:
        mine = [Key(key.algorithm, FOREIGN).jwk() for key in op.keys]
    if "no_keys" in faults:
        mine = []
    if "encryption_key" in faults:
        mine.insert(0, Key("RS256", FOREIGN).jwk(use="enc", alg="RSA-OAEP"))
    if "odd_keys" in faults:
        mine = [*_ODD_KEYS, *mine]
    if "oct_key" in faults:
        mine.insert(0, hmac_jwk())
    return _cached({"keys": mine}, op.jwks_cache)


def foreign_jwks(op: State, seen: Seen, faults: Collection[str]) -> Reply:
    """The key set that a forged token points to, under the kid of the honest one."""
    key = op.keys[0]
    return as_json({"keys": [Key(key.algorithm, FOREIGN, key.kid).jwk()]})


def without(content: Mapping[str, object]) -> dict[str, object]:
    """The same without what is LEFT_OUT."""
    return {name: value for name, value in content.items() if value is not LEFT_OUT}


def _metadata(op: State) -> dict[str, object]:
    return {
        "issuer": op.metadata_issuer,
        "authorization_endpoint": op.url("authorize"),
        "token_endpoint": op.url("token"),
        "userinfo_endpoint": op.url("userinfo"),
        "jwks_uri": op.url("jwks"),
        "revocation_endpoint": op.url("revoke"),
        "end_session_endpoint": op.url("end_session"),
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "authorization_response_iss_parameter_supported": True,
        "scopes_supported": ["openid", "email", "profile", "offline_access"],
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.algorithm for key in op.keys}),
        "token_endpoint_auth_methods_supported": _offered(op.auth_methods),
        "revocation_endpoint_auth_methods_supported": _offered(op.revocation_auth_methods),
        "code_challenge_methods_supported": ["S256"],
    }


def _offered(methods: tuple[str, ...] | None) -> object:
    return LEFT_OUT if methods is None else list(methods)


def _other_metadata(op: State, faults: Collection[str]) -> dict[str, object]:
    away = op.elsewhere.origin
    others: dict[str, dict[str, object]] = {
        "issuer_other": {"issuer": OTHER_ISSUER},
        "issuer_missing": {"issuer": LEFT_OUT},
        "endpoints_missing": dict.fromkeys(
            ("authorization_endpoint", "token_endpoint", "jwks_uri"), LEFT_OUT
        ),
        "endpoints_elsewhere": {name: f"{away}/{name}" for name in _LEADING},
        "endpoints_plain_http": {name: f"http://provider.invalid/{name}" for name in _LEADING},
        "endpoints_file": dict.fromkeys(_LEADING, "file:///etc/hostname"),
        "endpoints_script": dict.fromkeys(
            ("authorization_endpoint", "end_session_endpoint"), "javascript:alert(document.domain)"
        ),
        "endpoints_not_text": dict.fromkeys(("authorization_endpoint", *_LEADING), 4711),
        "iss_unannounced": {"authorization_response_iss_parameter_supported": LEFT_OUT},
        "no_pkce": {"code_challenge_methods_supported": LEFT_OUT},
        "no_userinfo": {"userinfo_endpoint": LEFT_OUT},
        "no_revocation": {"revocation_endpoint": LEFT_OUT},
        "no_end_session": {"end_session_endpoint": LEFT_OUT},
        "no_backchannel": {
            "backchannel_logout_supported": LEFT_OUT,
            "backchannel_logout_session_supported": LEFT_OUT,
        },
    }
    chosen: dict[str, object] = {}
    for name in sorted(faults):
        chosen |= others.get(name, {})
    return chosen


def _published(op: State, key: Key) -> dict[str, Any]:
    if op.tenant is None:
        return key.jwk()
    return key.jwk(issuer=op.key_issuer or op.metadata_issuer)


def _cached(content: object, cache_control: str | None) -> Reply:
    if cache_control is None:
        return as_json(content)
    return as_json(content, headers={"Cache-Control": cache_control})
