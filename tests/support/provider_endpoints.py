"""The endpoints of the tests' OpenID provider: authorization, tokens, userinfo, and the ends."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from html import escape
from typing import Any
from urllib.parse import urlencode

from tests.support.http_answers import Reply, as_json, as_markup, as_page, to
from tests.support.http_service import Seen
from tests.support.provider_documents import without
from tests.support.provider_grants import Grant, Refused, check_client
from tests.support.provider_keys import LEFT_OUT, half_hash
from tests.support.provider_state import State
from tests.support.provider_tokens import OTHER_ISSUER, id_token

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}

_MARKUP = "<script>document.title='cracked'</script>"
_ERRORS = {
    "access_denied": {"error": "access_denied", "error_description": "They said no."},
    "consent_required": {"error": "consent_required"},
    "login_required": {"error": "login_required"},
    "interaction_required": {"error": "interaction_required"},
    "invalid_scope": {"error": "invalid_scope"},
    "error_unknown": {"error": "moon_in_the_wrong_installation"},
    "error_markup": {"error": _MARKUP, "error_description": _MARKUP},
}
_WRONG_TYPES: dict[str, object] = {
    "access_token": ["at"],
    "token_type": 1,
    "expires_in": {"seconds": "many"},
    "refresh_token": 4711,
    "id_token": {"alg": "none"},
    "scope": 7,
}


def authorize(op: State, seen: Seen, faults: Collection[str]) -> Reply:
    """OIDC Core section 3.1.2, for a person who is signed in and says yes."""
    asked = seen.form
    redirect_uri = asked.get("redirect_uri", "")
    registered = op.redirect_uris is None or redirect_uri in op.redirect_uris
    if asked.get("client_id") != op.client_id or not redirect_uri or not registered:
        return as_page("This application is not known here.", 400)
    answer = _refusal(op, asked) or _chosen_error(faults) or {"code": _code(op, asked)}
    if "code_missing" in faults:
        answer.pop("code", None)
    if "code_wrong" in faults:
        answer["code"] = "never-given-out"
    if "state_missing" not in faults and "state" in asked:
        answer["state"] = asked["state"] if "state_wrong" not in faults else "of-somebody-else"
    if "iss_missing" not in faults:
        answer["iss"] = op.token_issuer if "iss_wrong" not in faults else OTHER_ISSUER
    if asked.get("response_mode") == "form_post":
        return _posted(redirect_uri, answer)
    return to(_with(redirect_uri, answer))


def _posted(redirect_uri: str, answer: dict[str, str]) -> Reply:
    """OAuth 2.0 Form Post Response Mode, section 2: a page that posts itself."""
    fields = "".join(
        f'<input type=hidden name="{escape(name)}" value="{escape(value)}">'
        for name, value in answer.items()
    )
    return as_markup(
        f'<form method=post action="{escape(redirect_uri)}">{fields}</form>'
        "<script>document.forms[0].submit()</script>"
    )


def token(op: State, seen: Seen, faults: Collection[str], inside: Collection[str]) -> Reply:
    """OIDC Core section 3.1.3.

    Args:
        inside: the faults of the ID token.

    Raises: Refused.
    """
    check_client(seen, (op.client_id, op.client_secret), op.takes_auth(op.auth_methods))
    _say(faults)
    if seen.form.get("grant_type") != "authorization_code":
        raise Refused("unsupported_grant_type", "neither a code nor a refresh token")
    grant = op.grants.redeem(
        seen.form.get("code", ""),
        seen.form.get("redirect_uri", ""),
        seen.form.get("code_verifier", ""),
    )
    if "key_rotated" in inside:
        op.rotate()
    return _tokens(op, grant, faults, inside, refreshing=False)


def refresh(op: State, seen: Seen, faults: Collection[str], inside: Collection[str]) -> Reply:
    """OIDC Core section 12. Raises: Refused."""
    check_client(seen, (op.client_id, op.client_secret), op.takes_auth(op.auth_methods))
    _say(faults)
    grant = op.grants.refreshed(seen.form.get("refresh_token", ""), op.refresh_tokens)
    return _tokens(op, grant, faults, {*inside, *({"sub_changed"} & set(faults))}, refreshing=True)


def userinfo(op: State, seen: Seen, faults: Collection[str]) -> Reply:
    """OIDC Core section 5.3."""
    scheme, _, sent = seen.headers.get("Authorization", "").partition(" ")
    grant = op.grants.of_access_token(sent)
    if scheme.lower() != "bearer" or grant is None:
        return Reply(401, b"", {"WWW-Authenticate": 'Bearer error="invalid_token"'})
    claims: dict[str, object] = {"sub": grant.user["sub"]}
    if op.claims_in != "id_token":
        claims |= grant.user
    if "sub_other" in faults:
        claims["sub"] = "somebody-else"
    if "sub_missing" in faults:
        claims["sub"] = LEFT_OUT
    if op.signed_userinfo is not None:
        claims = {"iss": op.token_issuer, "aud": op.client_id, **claims, **op.signed_userinfo}
        text = op.signing().token({"typ": "JWT"}, claims, op.userinfo_signer)
        return Reply(200, text.encode(), {"Content-Type": "application/JWT", **NO_STORE})
    return as_json(without(claims), headers=NO_STORE)


def revoke(op: State, seen: Seen, faults: Collection[str]) -> Reply:
    """RFC 7009: 200 whether the token was known or not. Raises: Refused."""
    # By its own list, where it has one, whatever the client is registered for.
    taken = op.revocation_auth_methods or op.takes_auth(op.auth_methods)
    check_client(seen, (op.client_id, op.client_secret), taken)
    sent = seen.form.get("token", "")
    if not sent:
        raise Refused("invalid_request", "no token")
    op.revoked.append((sent, seen.form.get("token_type_hint")))
    op.grants.revoke(sent)
    return Reply()


def end_session(op: State, seen: Seen, faults: Collection[str]) -> Reply:
    """OpenID Connect RP-Initiated Logout 1.0 sections 2 and 3."""
    op.ended.append(seen.form)
    hint, back = seen.form.get("id_token_hint"), seen.form.get("post_logout_redirect_uri")
    if hint is not None and hint not in op.id_tokens:
        return as_page("This is no token of ours.", 400)
    if op.sids:
        op.grants.end(lambda grant: grant.sid == op.sid)
    if back is None:
        return as_page("You are signed out.")
    registered = op.post_logout_redirect_uris
    if hint is None or (registered is not None and back not in registered):
        return as_page("We do not send you there.", 400)
    return to(_with(back, {"state": seen.form["state"]} if "state" in seen.form else {}))


def _refusal(op: State, asked: dict[str, str]) -> dict[str, str] | None:
    """The error for a request that is not right (RFC 6749 section 4.1.2.1)."""
    if asked.get("response_type") != "code":
        return {"error": "unsupported_response_type"}
    if "openid" not in asked.get("scope", "").split():
        return {"error": "invalid_scope", "error_description": "openid is missing"}
    challenged = bool(asked.get("code_challenge"))
    if challenged != (asked.get("code_challenge_method") == "S256") or (
        op.demands_pkce and not challenged
    ):
        return {"error": "invalid_request", "error_description": "PKCE with S256 is needed"}
    return None


def _chosen_error(faults: Collection[str]) -> dict[str, str] | None:
    return next((dict(_ERRORS[name]) for name in sorted(faults) if name in _ERRORS), None)


def _code(op: State, asked: dict[str, str]) -> str:
    op.sids.append(secrets.token_urlsafe(12))
    return op.grants.code_for(
        Grant(
            user=dict(op.user),
            sid=op.sids[-1],
            scope=asked["scope"],
            redirect_uri=asked["redirect_uri"],
            nonce=asked.get("nonce"),
            challenge=asked.get("code_challenge"),
        )
    )


def _say(faults: Collection[str]) -> None:
    statuses = {
        "invalid_grant": 400,
        "invalid_client": 401,
        "invalid_request": 400,
        "temporarily_unavailable": 503,
    }
    if "refused_empty" in faults:
        raise Refused("", "the test says so")
    for code, status in statuses.items():
        if code in faults:
            raise Refused(code, "the test says so", status)


def _tokens(
    op: State, grant: Grant, faults: Collection[str], inside: Collection[str], *, refreshing: bool
) -> Reply:
    access = op.grants.access_token(grant)
    signed = id_token(op.signing(), _claims(op, grant, access, refreshing=refreshing), inside)
    op.access_tokens.append(access)
    op.id_tokens.append(signed)
    content: dict[str, object] = {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": op.expires_in if op.expires_in is not None else LEFT_OUT,
        "scope": grant.scope,
        "id_token": signed,
    }
    if op.refresh_tokens == "rotating" or (op.refresh_tokens == "kept" and not refreshing):
        content["refresh_token"] = op.grants.refresh_token(grant)
        op.given_refresh_tokens.append(str(content["refresh_token"]))
    for fault, member in (("no_id_token", "id_token"), ("no_access_token", "access_token")):
        if fault in faults:
            content[member] = LEFT_OUT
    return as_json(_WRONG_TYPES if "wrong_types" in faults else without(content), headers=NO_STORE)


def _claims(op: State, grant: Grant, access: str, *, refreshing: bool) -> dict[str, Any]:
    """The claims of an ID token as they should be; a refreshed one has no nonce (section 12.2)."""
    now = int(time.time())
    return without(
        {
            **(grant.user if op.claims_in != "userinfo" else {"sub": grant.user["sub"]}),
            "iss": op.token_issuer,
            "aud": op.client_id,
            "iat": now,
            "exp": now + op.lifetime,
            "auth_time": grant.auth_time,
            "nonce": LEFT_OUT if refreshing or grant.nonce is None else grant.nonce,
            "at_hash": half_hash(access),
            "sid": grant.sid,
            "tid": op.tenant if op.tenant is not None else LEFT_OUT,
            **op.id_token_claims,
        }
    )


def _with(address: str, parameters: dict[str, str]) -> str:
    if not parameters:
        return address
    return f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}"
