"""OpenAPI compared with the routes, and with the refusals of a running server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from email.message import Message
from typing import Any, get_args

from tornado import web

from handlers.reference.openapi import METHODS
from services.accounts.api_key_rows import Scope
from tests.docs.documents import ROUTES, Json, described_calls
from tests.docs.witness import Witness
from tests.support.server import PASSWORD, PATIENCE, Answer, Client, Usher, address

# ---- the document in itself ----------------------------------------------------------------


def test_operations_are_whole(openapi: Json) -> None:
    assert openapi["openapi"] == "3.1.0"
    ids, tags = [], {tag["name"] for tag in openapi["tags"]}
    schemes = openapi["components"]["securitySchemes"]
    assert len(tags) == len(openapi["tags"])
    for path, _, call in described_calls(openapi):
        ids.append(call["operationId"])
        assert call["summary"].endswith(".")
        assert set(call["tags"]) <= tags
        assert {name for choice in call["security"] for name in choice} <= set(schemes)
        assert all(response["description"] for code, response in good_and_bad(call))
        named = {p["name"] for p in openapi["paths"][path].get("parameters", [])}
        assert named == set(re.findall(r"{(\w+)}", path))
    assert len(set(ids)) == len(ids)


def test_what_a_call_needs_is_what_it_checks(openapi: Json) -> None:
    for path, handler in ROUTES:
        for method in implemented(handler):
            access = getattr(handler, method).operation.access
            call = openapi["paths"][path][method]
            needed = {name: roles for choice in call["security"] for name, roles in choice.items()}
            roles = ["admin"] if access not in ("anyone", "user", "channels") else []
            if access != "anyone":
                assert needed["bearer"] == needed["cookie"] == roles, (path, method)
                assert ("403" in call["responses"]) >= bool(roles)
            scopes = [choice["api_key"] for choice in call["security"] if "api_key" in choice]
            either = {"directory": [["read"], ["users"]]}
            one = [[access]] if access in get_args(Scope) else []
            assert scopes == either.get(access, one), (path, method)


def good_and_bad(call: Json) -> Iterator[tuple[str, Json]]:
    """Every response but the one for the rest."""
    yield from ((c, r) for c, r in call["responses"].items() if c != "default")


# ---- routes against OpenAPI ----------------------------------------------------------------


def implemented(handler: type[web.RequestHandler]) -> set[str]:
    """The methods that a handler has, whether or not somebody has described them."""
    return {m for m in METHODS if getattr(handler, m) is not getattr(web.RequestHandler, m)}


def test_routes_and_openapi_are_the_same(openapi: Json) -> None:
    described = {(path, method) for path, method, _ in described_calls(openapi)}
    served = {(path, method) for path, handler in ROUTES for method in implemented(handler)}
    assert described == served | {("/ws", "get")}


def test_a_running_server_takes_the_methods_of_openapi_and_no_others(
    own: Usher, openapi: Json
) -> None:
    client = Client(own)
    for path, item in openapi["paths"].items():
        if path == "/ws":
            continue
        for method in METHODS:
            status = client.call(method.upper(), re.sub(r"{\w+}", "x", path)).status
            assert (status != 405) == (method in item), (method, path, status)


# ---- real refusals against OpenAPI ---------------------------------------------------------


def test_every_refusal_is_one_of_those_described(own: Usher, openapi: Json) -> None:
    nobody = Witness(own, document=openapi)
    email = address()
    user = nobody.sign("signup", email, status=201)
    account = {"email": email, "password": PASSWORD, "name": "Ada"}
    foreign, bad_token = {"Origin": "https://evil.example"}, {"Authorization": "Bearer x"}
    change = {"current_password": "wrong", "new_password": PASSWORD}
    refusals: list[tuple[int, Witness, str, str, Any, dict[str, str]]] = [
        (400, nobody, "POST", "/api/auth/signup", {"email": 1}, {}),
        (400, nobody, "POST", "/api/auth/signup", account | {"email": "x"}, {}),
        (400, nobody, "POST", "/api/auth/signup", account | {"password": "a"}, {}),
        (409, nobody, "POST", "/api/auth/signup", account, {}),
        (403, nobody, "POST", "/api/auth/signup", account, foreign),
        (413, nobody, "POST", "/api/auth/signup", b" " * 70_000, {}),
        (401, nobody, "POST", "/api/auth/login", account | {"password": "wrong"}, {}),
        (401, nobody, "POST", "/api/auth/refresh", {"refresh_token": "x"}, {}),
        (401, nobody, "POST", "/api/auth/logout", None, {}),
        (401, nobody, "GET", "/api/auth/me", None, {}),
        (401, nobody, "POST", "/api/ws/ticket", None, bad_token),
        (403, user, "POST", "/api/auth/password", change, {}),
        (404, user, "DELETE", "/api/sessions/none", None, {}),
        (403, user, "GET", "/api/admin/users", None, {}),
        (403, user, "DELETE", "/api/admin/users/none", None, {}),
        (403, user, "POST", "/api/admin/users/none/disconnect", None, {}),
        (403, user, "POST", "/api/publish", {"room": "channel:x", "event": "x"}, {}),
        (403, user, "PUT", "/api/models/small", {"title": "Small"}, {}),
        (403, user, "GET", "/api/admin/api-keys", None, {}),
        (401, nobody, "GET", "/api/models", None, {"Authorization": "Bearer usher_key_x"}),
        (401, nobody, "POST", "/api/publish", None, {"Authorization": "Bearer usher_key_x"}),
    ]
    for status, client, method, path, body, headers in refusals:
        assert client.call(method, path, body, headers).status == status, (method, path, body)


def test_a_refused_socket_is_refused_as_described(own: Usher, openapi: Json) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    nobody = Witness(own, document=openapi)
    assert nobody.get("/ws").status == 426
    for more, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Authorization": "Bearer x"}, 401),
        ({"Sec-WebSocket-Key": "short"}, 400),
    ):
        # urllib always sends `Connection: close`, so these are sent by hand.
        answer = asyncio.run(handshaken(own, {**handshake, **more}))
        nobody._check(openapi["paths"]["/ws"]["get"]["responses"][str(status)], answer)
        assert answer.status == status


async def handshaken(server: Usher, headers: dict[str, str]) -> Answer:
    """The answer to a handshake as it is written."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    raw = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    found_headers = Message()
    for line in fields:
        name, _, value = line.partition(": ")
        found_headers[name] = value
    return Answer(int(status.split()[1]), found_headers, body)
