"""Before the run: whether there is such a server at all, and what the kit may do there."""

from __future__ import annotations

import secrets
import ssl
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx

from conformance.http import Http, http_of, json_of
from conformance.socket import HandshakeRefused, open_socket
from conformance.target import Target
from conformance.verdict import Broken

NEW_KEY = {
    "name": "conformance",
    "scopes": ["publish", "disconnect", "read", "introspect", "channels", "users"],
}


class Unusable(Exception):
    """Nothing can be checked. The text says why, and what to do about it."""


async def prepared(target: Target, *, first_account: bool = False) -> tuple[Target, str]:
    """The target, with a key and a token if they are to be made; and a note for who runs the kit.

    Args:
        first_account: the server has no accounts, and the kit becomes its administrator.

    Raises:
        Unusable: a node does not answer, is no such server, or refuses the origin or the
            credentials.
    """
    async with AsyncExitStack() as stack:
        for node in target.nodes:
            await _is_there(node, await http_of(target, stack, node))
            await _takes_the_origin(target, node)
        http = await http_of(target, stack, target.near)
        if target.admin_key is not None:
            await _key_is_good(http, target.admin_key)
        if target.admin_token is not None:
            await _token_is_good(http, target.admin_token)
        if target.admin_key is not None or target.admin_token is not None:
            return target, ""
        return await _first(target, http, first_account)


async def _is_there(node: str, http: Http) -> None:
    try:
        answer = await http.client.get("/api/auth/me")
    except httpx.TimeoutException:
        raise Unusable(f"{node} does not answer within --patience") from None
    except httpx.HTTPError as error:
        raise Unusable(f"cannot reach {node}: {_reason(error)}") from None
    if answer.is_redirect:
        raise Unusable(f"{node} redirects to {answer.headers.get('Location')}: use that URL")
    if answer.status_code != 401 or json_of(answer).get("code") != "unauthenticated":
        raise Unusable(
            f"{node} is no such server: GET /api/auth/me was answered with {answer.status_code}, "
            "not with 401 and a problem document"
        )


async def _takes_the_origin(target: Target, node: str) -> None:
    """A foreign origin is refused with 403 before anything else is looked at: with one that is not
    the server's, many promises would look broken."""
    async with AsyncExitStack() as stack:
        try:
            await open_socket(target, stack, node=node, origin=target.origin)
        except HandshakeRefused as refused:
            if refused.status == 403:
                raise Unusable(
                    f"{node} refuses the origin {target.origin}: give the server's PUBLIC_URL as "
                    "--origin, or add this origin to its ALLOWED_ORIGINS"
                ) from None
        except Broken:  # the cases say what is wrong there
            pass


def _reason(error: BaseException) -> str:
    """What lies at the bottom of an error, with a hint for certificates."""
    bottom = error
    while (below := bottom.__cause__ or bottom.__context__) is not None:
        bottom = below
    if isinstance(bottom, ssl.SSLCertVerificationError):
        return f"{bottom.verify_message}. Give the certificates of a private CA as --ca-file"
    if isinstance(bottom, ssl.SSLError):
        return f"{bottom}. Does it speak http://?"
    if isinstance(bottom, ConnectionRefusedError):
        return "connection refused. Is the server running, on this port?"
    return str(bottom) or str(error) or type(error).__name__


async def _key_is_good(http: Http, key: str) -> None:
    http.token = key
    answer = await _asked(http, "POST", "/api/introspect", {"token": "not-a-token"})
    if answer.status_code == 401:
        raise Unusable("the server refuses --admin-key: it is wrong, revoked or expired")


async def _token_is_good(http: Http, token: str) -> None:
    http.token = token
    answer = await _asked(http, "GET", "/api/auth/me")
    if answer.status_code != 200:
        raise Unusable("the server refuses --admin-token: it is wrong or has expired")
    if json_of(answer).get("role") != "admin":
        raise Unusable("--admin-token is not of an administrator")


async def _asked(
    http: Http, method: str, path: str, form: dict[str, str] | None = None
) -> httpx.Response:
    try:
        return await http.call(method, path, form=form)
    except Broken as broken:
        raise Unusable(str(broken)) from None


async def _first(target: Target, http: Http, wanted: bool) -> tuple[Target, str]:
    """Sign up, to learn whether this is the first account: it becomes the administrator."""
    email = f"conformance-{secrets.token_hex(8)}@{target.email_domain}"
    password = secrets.token_urlsafe(18)
    body = {"email": email, "password": password, "name": "Conformance", "client": "native"}
    http.token = None
    try:
        found = json_of(await http.call("POST", "/api/auth/signup", body))
        http.token = str(found.get("access_token"))
        is_first = (found.get("user") or {}).get("role") == "admin"
        if not is_first and "access_token" in found:
            await http.call("DELETE", "/api/auth/me")
        if is_first and wanted:
            made = await http.do("POST", "/api/admin/api-keys", NEW_KEY, 201)
            key = str(made.get("key"))
            told = f"administrator of the server: {email}, password {password}"
            return replace(target, admin_key=key, administrator=(email, password)), told
    except Broken as broken:
        raise Unusable(str(broken)) from None
    if wanted:
        raise Unusable(
            "--first-account: the server has accounts already. Give --admin-key and --admin-token"
        )
    if is_first:
        raise Unusable(
            f"the server had no accounts, so {email} with the password {password} is its "
            "administrator now. Sign in and make an API key for --admin-key; or, for a server that "
            "you will throw away, start it anew and use --first-account"
        )
    return target, "without --admin-key and --admin-token, some cases are not run"
