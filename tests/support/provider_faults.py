"""What can be wrong with the tests' OpenID provider: every switch by its name, with its meaning.

A test takes the names from here for its parameters, so that a new fault is tested at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tests.support.faults import TRANSPORT_FAULTS

AUTHORIZE_FAULTS: Mapping[str, str] = {
    "access_denied": "the person says no",
    "consent_required": "the same in LemonLDAP::NG's word",
    "login_required": "the person is not signed in, and must not be asked to",
    "interaction_required": "the person would have to be asked something",
    "invalid_scope": "a scope that the client may not have",
    "error_unknown": "an error code that no RFC has",
    "error_markup": "an error and a description full of HTML",
    "state_missing": "the answer has no state",
    "state_wrong": "the state of somebody else",
    "iss_missing": "no iss, though it is announced (RFC 9207)",
    "iss_wrong": "the iss of another provider (mix-up)",
    "code_missing": "neither a code nor an error",
    "code_wrong": "a code that was never given out",
}

ID_TOKEN_FAULTS: Mapping[str, str] = {
    "nonce_wrong": "the nonce of another login",
    "nonce_missing": "no nonce",
    "aud_wrong": "made for another client",
    "aud_missing": "no aud",
    "aud_several": "for two clients, without azp",
    "aud_several_azp_wrong": "for two clients, issued to the other one",
    "azp_wrong": "one audience, issued to another client",
    "iss_other": "another issuer",
    "iss_missing": "no iss",
    "expired": "expired an hour ago",
    "exp_missing": "no exp",
    "iat_future": "issued tomorrow",
    "iat_missing": "no iat",
    "sub_missing": "no sub",
    "sub_empty": "an empty sub",
    "sub_not_text": "a number as sub",
    "sub_long": "a sub of 256 characters; 255 are allowed (Core section 2)",
    "at_hash_wrong": "at_hash of another access token",
    "alg_none": "unsigned",
    "alg_hs256_pem": "HS256, its secret the public key as PEM",
    "alg_hs256_raw": "HS256, its secret the bytes of the modulus (or point)",
    "alg_hs256_client_secret": "HS256 with the client secret, which was not agreed on",
    "alg_hs256_oct": "HS256 with a symmetric key; together with jwks=oct_key it is published",
    "kid_unknown": "a kid that no key has",
    "key_of_another": "signed with a key that is not published, under the kid of one that is",
    "jwk_embedded": "the same, the public key in the header",
    "jku": "the same, the header telling where its key set lies",
    "typ_logout": "a header that says it is a logout token",
    "garbage": "not a JWT",
}
"""Each has to be refused."""

ID_TOKEN_QUIRKS: Mapping[str, str] = {
    "aud_list": "aud as a list of one",
    "aud_several_azp_right": "for two clients, issued to this one",
    "azp_right": "one audience, and azp says so",
    "at_hash_missing": "no at_hash, which is optional in this flow",
    "kid_missing": "no kid, where the key set has only one key (Core section 10.1)",
    "typ_missing": "no typ",
    "key_rotated": "signed with a new key; the key set has only that one from now on",
}
"""Unusual, and to be accepted."""

TENANT_FAULTS: Mapping[str, str] = {
    "tid_missing": "no tid, though the issuer is per tenant",
    "tid_other": "the tid of another tenant than iss says",
    "tid_not_guid": "a tid, and an iss with it, that is no GUID",
}
"""For `tenant=` (Microsoft): each has to be refused."""

TOKEN_FAULTS: Mapping[str, str] = {
    **TRANSPORT_FAULTS,
    "wrong_types": "every member of a type that it must not have",
    "no_id_token": "no ID token",
    "no_access_token": "no access token",
    "invalid_grant": "says the grant is no good",
    "invalid_client": "says the client is unknown, status 401",
    "invalid_request": "says the request is no good, status 400",
    "refused_empty": "says nothing, status 400",
    "temporarily_unavailable": "says so, status 503",
}

REFRESH_FAULTS: Mapping[str, str] = {
    **TOKEN_FAULTS,
    "sub_changed": "the new ID token names somebody else",
}

DISCOVERY_FAULTS: Mapping[str, str] = {
    **TRANSPORT_FAULTS,
    "issuer_other": "the document is another issuer's",
    "issuer_missing": "no issuer",
    "endpoints_missing": "no authorization_endpoint, token_endpoint and jwks_uri",
    "endpoints_elsewhere": "token_endpoint, jwks_uri and userinfo_endpoint at `elsewhere`",
    "endpoints_plain_http": "the same at http:// on a host that is not loopback",
    "endpoints_file": "the same as file:// URLs",
    "endpoints_script": "authorization_endpoint and end_session_endpoint are javascript: URLs",
    "endpoints_not_text": "numbers as endpoints",
}

DISCOVERY_QUIRKS: Mapping[str, str] = {
    "iss_unannounced": "does not say that it sends iss, and sends it (Google, 2026)",
    "no_pkce": "does not say which PKCE methods it knows (Microsoft)",
    "no_userinfo": "has no userinfo_endpoint",
    "no_revocation": "has no revocation_endpoint (Microsoft)",
    "no_end_session": "has no end_session_endpoint (Google)",
    "no_backchannel": "does not announce back-channel logout",
}
"""What a good provider may leave out."""

JWKS_FAULTS: Mapping[str, str] = {
    **TRANSPORT_FAULTS,
    "no_keys": "an empty set",
    "only_others": "well, but only with keys that sign nothing here",
}

JWKS_QUIRKS: Mapping[str, str] = {
    "oct_key": "a symmetric key among the others",
    "odd_keys": "keys of unknown kinds and broken ones among the others",
    "encryption_key": "a key for encryption (use=enc) among the others",
    "no_alg": "keys without alg (Microsoft)",
}
"""The good key is in it."""

USERINFO_FAULTS: Mapping[str, str] = {
    **TRANSPORT_FAULTS,
    "sub_other": "the claims of somebody else",
    "sub_missing": "no sub",
}

FAULTS: Mapping[str, Collection[str]] = {
    "authorize": AUTHORIZE_FAULTS,
    "id_token": {**ID_TOKEN_FAULTS, **ID_TOKEN_QUIRKS, **TENANT_FAULTS},
    "token": TOKEN_FAULTS,
    "refresh": REFRESH_FAULTS,
    "discovery": {**DISCOVERY_FAULTS, **DISCOVERY_QUIRKS},
    "jwks": {**JWKS_FAULTS, **JWKS_QUIRKS},
    "userinfo": USERINFO_FAULTS,
    "revoke": TRANSPORT_FAULTS,
    "end_session": TRANSPORT_FAULTS,
}
"""Place to the faults that it can have. `token` is the code grant, `refresh` the other one."""
