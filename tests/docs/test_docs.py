"""The documents compared with the code, and with the responses of a running server."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
import pytest
from tornado import web

from handlers.reference.asyncapi import PUBLISHED
from handlers.reference.openapi import METHODS
from handlers.routes import API_ROUTES, CLIENT_ROUTES, DOCUMENT_ROUTES
from handlers.websocket.room_events import HISTORY_BYTES, HISTORY_PAGE, MAX_PEOPLE, ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from services.accounts.api_key_rows import Scope
from services.rooms.presence import PEOPLE_AT_ONCE
from services.rooms.room_protocol import MAX_ROOM_NAME, ROOM_SERVER_EVENTS, gap_event
from services.rooms.usage import FADE_SECONDS
from services.settings.table import SETTINGS
from services.websocket.connection import OUTBOX_BYTES
from services.websocket.protocol import (
    CLOSE_MEANINGS,
    MAX_MESSAGE_BYTES,
    MAX_UNJOINED_MESSAGE_BYTES,
    RETRY_MEANINGS,
    SERVER_EVENTS,
    CloseCode,
    Retry,
)
from tests.support.authenticator import lost_factors, second_factors
from tests.support.mail_server import Mailbox
from tests.support.markdown import table
from tests.support.native import App
from tests.support.provider import Provider, provider
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    ROOT,
    Answer,
    Client,
    Usher,
    address,
    ask,
    bearer,
    connect,
    new_token,
    receive,
    sign_up,
    usher,
    wait_until,
)
from tests.support.sign_in import begin, come_back, settings_for
from tests.support.talk import Talker, talking

PROTOCOL = (ROOT / "docs/protocol.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
ROUTES = (*API_ROUTES, *CLIENT_ROUTES, *DOCUMENT_ROUTES)
CLIENT_EVENTS = {**EVENTS, **ROOM_EVENTS}
ALL_SERVER_EVENTS = {**SERVER_EVENTS, **ROOM_SERVER_EVENTS}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def own(database_kind: str) -> Iterator[Usher]:
    """A server of this file's own, with an administrator: later accounts are none."""
    with usher(database_kind) as running:
        sign_up(running)
        yield running


@pytest.fixture(scope="module")
def openapi(own: Usher) -> Json:
    document: Json = Client(own).get("/openapi.json").body
    return document


@pytest.fixture(scope="module")
def asyncapi(own: Usher) -> Json:
    document: Json = Client(own).get("/asyncapi.json").body
    return document


def fits(value: object, schema: Json, document: Json) -> None:
    """Checks a value against a schema that refers to a document's components.

    More strictly than a client may: what is not described must not be there either.
    """
    closed = {
        name: {**component, "additionalProperties": False}
        if "properties" in component
        else component
        for name, component in document["components"]["schemas"].items()
    }
    whole = {**schema, "components": {"schemas": closed}}
    jsonschema.Draft202012Validator(whole).validate(value)


# ---- the documents in themselves -----------------------------------------------------------


def nodes(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from nodes(item)


def found(document: Json, reference: str) -> Any:
    value: Any = document
    for step in reference.removeprefix("#/").split("/"):
        value = value[step.replace("~1", "/").replace("~0", "~")]
    return value


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["openapi", "asyncapi"])
def test_every_reference_leads_somewhere(name: str, request: pytest.FixtureRequest) -> None:
    document = request.getfixturevalue(name)
    references = {node["$ref"] for node in nodes(document) if "$ref" in node}
    assert references
    for reference in references:
        assert found(document, reference)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["openapi", "asyncapi"])
def test_every_component_is_a_schema_and_is_used(name: str, request: pytest.FixtureRequest) -> None:
    document = request.getfixturevalue(name)
    used = {node["$ref"].rpartition("/")[2] for node in nodes(document) if "$ref" in node}
    assert set(document["components"]["schemas"]) <= used
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def described_calls(openapi: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in openapi["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


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


def test_patterns_are_those_of_every_language(openapi: Json, asyncapi: Json) -> None:
    found = {node["pattern"] for node in nodes([openapi, asyncapi]) if "pattern" in node}
    assert len(found) > 1
    assert not any("\\A" in pattern or "\\Z" in pattern for pattern in found)


def good_and_bad(call: Json) -> Iterator[tuple[str, Json]]:
    """Every response but the one for the rest."""
    yield from ((c, r) for c, r in call["responses"].items() if c != "default")


def test_what_the_socket_does_is_whole(asyncapi: Json) -> None:
    assert asyncapi["asyncapi"] == "3.0.0"
    messages = asyncapi["channels"]["socket"]["messages"]
    spoken = set()
    for does in asyncapi["operations"].values():
        assert does["action"] in ("receive", "send")
        listed = does["messages"] + does.get("reply", {}).get("messages", [])
        spoken |= {message["$ref"].rpartition("/")[2] for message in listed}
    assert spoken == set(messages)
    for message in asyncapi["components"]["messages"].values():
        jsonschema.Draft202012Validator.check_schema(message["payload"])


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


# ---- real answers against OpenAPI ----------------------------------------------------------


@dataclass
class Witness(Client):
    """A client that holds every answer against the document."""

    document: Json = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)
    """Good answers, and refusals, by path and method."""

    def call(self, method: str, path: str, *rest: Any, **more: Any) -> Answer:
        answer = super().call(method, path, *rest, **more)
        where = path.partition("?")[0]
        template = next(t for t in self.document["paths"] if self._is(t, where))
        described = self.document["paths"][template][method.lower()]
        self._check(described["responses"][str(answer.status)], answer)
        (self.seen if answer.status < 400 else self.refused).add((template, method.lower()))
        return answer

    def _is(self, template: str, path: str) -> bool:
        return re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path) is not None

    def _check(self, response: Json, answer: Answer) -> None:
        if "content" not in response:
            assert answer.text == b""
            return
        kind = answer.headers["Content-Type"].partition(";")[0]
        schema = response["content"][kind]["schema"]
        body = answer.body if "json" in kind else answer.text.decode()
        fits(body, schema, self.document)

    def again(self, **changes: Any) -> Witness:
        """Another client that notes in the same place."""
        return Witness(self.server, document=self.document, seen=self.seen, refused=self.refused)

    def sign(self, way: str, email: str, client: str = "native", status: int = 200) -> Witness:
        """Sign up or log in; returns the client who is that now."""
        new = self.again()
        new.browser = client == "browser"
        body = {"email": email, "password": PASSWORD, "name": "Ada", "client": client}
        answer = new.post(f"/api/auth/{way}", body)
        assert answer.status == status
        new.user = answer.body["user"]
        new.token = answer.body.get("access_token")
        new.refresh_token = answer.body.get("refresh_token")
        return new


def test_every_call_answers_as_described(database_kind: str, openapi: Json) -> None:
    with provider() as op, usher(database_kind, APP_AUDIENCES="shop", **settings_for(op)) as fresh:
        nobody = Witness(fresh, document=openapi)
        admin_address, user_address = address(), address()
        admin = nobody.sign("signup", admin_address, status=201)
        user = nobody.sign("signup", user_address, "browser", 201)
        sign_in_and_out(nobody, user_address)
        hand_over_to_an_app(user)
        second_factors(nobody.again(), nobody.sign("login", user_address), user_address)
        lost_factors(admin, nobody.sign("signup", address(), status=201))
        one_account(user)
        keep_an_address(nobody, nobody.sign("signup", address(), status=201))
        keep_channels(admin, nobody.sign("signup", address(), status=201))
        leaver = nobody.sign("signup", address(), status=201)
        assert leaver.call("DELETE", "/api/auth/me").status == 204
        serve_backends(admin, nobody)
        come_by_a_provider(nobody, op)
        keep_webhooks(admin)
        administer(admin, nobody.sign("login", user_address))
        for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/asyncapi.json"):
            nobody.get(path)
        nobody.get("/client/usher.js")
        calls = {(path, method) for path, method, _ in described_calls(openapi)}
        assert nobody.seen == calls - {("/ws", "get")}


def keep_an_address(nobody: Witness, user: Witness) -> None:
    """A forgotten password, and an address that is confirmed, changed and brought back."""
    assert user.user is not None
    former, new = user.user["email"], address()
    folder = nobody.server.data_dir
    assert nobody.post("/api/auth/password/forgot", {"email": former}).status == 204
    assert nobody.post("/api/auth/email/verify", {"email": former}).status == 204
    token = Mailbox(folder, former).token("verify_address")
    confirm, undo = "/api/auth/email/confirm", "/api/auth/email/undo"
    assert user.post(confirm, {"token": token}).status == 204
    assert nobody.post(confirm, {"token": token}).status == 403
    assert user.post("/api/auth/email", {"email": new}).status == 204
    token = Mailbox(folder, new).token("change_address")
    assert nobody.post(confirm, {"token": token, "password": PASSWORD}).status == 204
    token = Mailbox(folder, former).token("address_changed")
    assert nobody.post(undo, {"token": token}).status == 204
    assert nobody.post(undo, {"token": token}).status == 403
    squatted = address()
    nobody.sign("signup", squatted, status=201)
    token = Mailbox(folder, squatted).token("verify_address")
    assert "set_password_url" in nobody.post(confirm, {"token": token}).body


def sign_in_and_out(nobody: Witness, email: str) -> None:
    for client in ("browser", "native"):
        signed_in = nobody.sign("login", email, client)
        token = signed_in.refresh_token
        body = {} if token is None else {"refresh_token": token}
        assert signed_in.post("/api/auth/refresh", body).status == 200
        assert signed_in.post("/api/auth/logout").status == 204
        assert signed_in.post("/api/auth/refresh", body).status == 401
    ended = nobody.sign("login", email).post("/api/auth/logout?wait=true")
    assert ended.status == 200
    (node,) = ended.body["nodes"]
    assert (node["closed"], node["pending"]) == (0, 0)


def come_by_a_provider(nobody: Witness, op: Provider) -> None:
    """There and back, linked and unlinked, and out again."""
    browser = nobody.again()
    browser.browser = True
    assert browser.get("/api/oauth/providers").status == 200
    assert browser.get("/oauth/nobody/login").status == 404
    assert browser.get("/api/auth/signup").status == 200
    assert come_back(browser, begin(browser)).status == 302
    assert browser.get("/oauth/mock/callback?error=access_denied").status == 403
    assert browser.get("/api/oauth/accounts").body["items"][0]["provider"] == "mock"
    assert browser.call("DELETE", "/api/oauth/accounts/mock").status == 409
    assert browser.post("/api/oauth/logout").status == 200
    op.user = {"sub": "linked later"}
    owner = nobody.sign("signup", address(), "browser", 201)
    # A sign-in just made is a step-up.
    assert owner.post("/api/oauth/accounts/mock/link", {}).status == 200
    going = owner.post("/api/oauth/accounts/mock/link", {"current_password": PASSWORD})
    assert come_back(owner, going.body["location"]).status == 302
    assert owner.call("DELETE", "/api/oauth/accounts/mock").status == 204
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = nobody.call("POST", "/oauth/mock/callback", b"error=access_denied", form)
    assert posted.status == 303
    for status in (200, 400):
        body = f"logout_token={op.logout_token(jti='once')}".encode()
        answer = nobody.call("POST", "/oauth/mock/backchannel-logout", body, form)
        assert answer.status == status


def hand_over_to_an_app(user: Witness) -> None:
    """The page's part of a native sign-in, and the app's."""
    app, asks = App(user.server), "/api/auth/native-code"
    code = app.code_from(user)
    assert user.post(asks, {**app.query, "redirect_uri": "x"}).status == 400
    assert user.post(asks, app.query, Origin="https://evil.example").status == 403
    body = {"code": code, "code_verifier": app.verifier, "redirect_uri": app.uri}
    for status in (200, 401):
        assert user.again().post("/api/auth/exchange", body).status == status


def one_account(user: Witness) -> None:
    user.get("/api/auth/me")
    assert user.call("PATCH", "/api/auth/me", {"name": "Grace"}).status == 200
    assert user.get("/api/auth/claims").status == 200
    assert user.get("/api/auth/me/export").status == 200
    user.get("/api/sessions")
    user.ticket()
    assert user.post("/api/auth/step-up", {"password": PASSWORD}).status == 200
    change = {"current_password": PASSWORD, "new_password": PASSWORD}
    assert user.post("/api/auth/password", change).status == 204
    assert user.call("DELETE", "/api/sessions").status == 204
    (session,) = user.get("/api/sessions").body["items"]
    assert user.call("DELETE", f"/api/sessions/{session['id']}").status == 204
    assert user.get("/api/auth/me").status == 401


def keep_channels(owner: Witness, member: Witness) -> None:
    """Opening a channel, letting somebody in, and away with it."""
    path = f"/api/channels/{owner.post('/api/channels', {'name': 'Herons'}).body['id']}"
    seat = f"{path}/members/{member.user['id']}"
    assert member.get(path).status == 404
    assert owner.call("PUT", seat, {"right": "read"}).status == 200
    assert owner.call("PUT", f"{path}/members/{owner.user['id']}").status == 409
    added = owner.post(f"{path}/members", {"email": member.user["email"]})
    assert added.status == 200
    assert member.get(path).status == member.get("/api/channels").status == 200
    assert member.call("PATCH", path, {"private": False}).status == 403
    assert owner.call("PATCH", path, {"roles": {"user": "read"}}).status == 200
    assert owner.get(path).body["roles"] == {"user": "read"}
    assert owner.call("DELETE", seat).status == owner.call("DELETE", path).status == 204


def serve_backends(admin: Witness, nobody: Witness) -> None:
    """A backend with a key: what its scope lets it do, and what it does not."""
    keys = "/api/admin/api-keys"
    made = admin.post(keys, {"name": "Builds", "scopes": ["publish"]})
    assert made.status == 201
    backend = nobody.again()
    backend.token = made.body["key"]
    said = {"room": f"user:{admin.user['id']}", "event": "build-done", "data": [1]}
    assert backend.post("/api/publish", said).status == 204
    assert backend.post("/api/publish", said | {"event": "joined"}).status == 400
    assert backend.post("/api/publish", said | {"room": "nodes"}).status == 400
    assert backend.call("PUT", "/api/models/small%2F1", {"title": "Small"}).status == 200
    assert [m["id"] for m in admin.get("/api/models").body["items"]] == ["small/1"]
    assert backend.call("DELETE", "/api/models/small%2F1").status == 204
    assert backend.call("DELETE", "/api/models/small%2F1").status == 404
    assert backend.post(f"/api/admin/users/{admin.user['id']}/disconnect").status == 403
    assert backend.get(keys).status == 401
    open_an_account(admin, nobody)
    who_calls(admin, nobody)
    row = admin.get(keys).body["items"][-1]
    assert "key" not in row
    assert admin.call("DELETE", f"{keys}/{row['id']}").status == 204
    assert admin.call("DELETE", f"{keys}/{row['id']}").status == 404
    assert backend.post("/api/publish", said).status == 401


def open_an_account(admin: Witness, nobody: Witness) -> None:
    """For somebody who sets the password by a link."""
    asked = {"email": address(), "name": "Grace"}
    url = admin.post("/api/admin/users", asked).body["set_password_url"]
    assert admin.post("/api/admin/users", asked).status == 409
    reset = {"token": url.rpartition("=")[2], "new_password": PASSWORD}
    for status in (204, 403):
        assert nobody.post("/api/auth/password/reset", reset).status == status


def who_calls(admin: Witness, nobody: Witness) -> None:
    """A backend and a proxy that ask, and a token that is checked offline."""
    backend = nobody.again()
    key = admin.post("/api/admin/api-keys", {"name": "Asks", "scopes": ["introspect"]})
    backend.token = key.body["key"]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for token in (str(admin.token), "x"):
        asked = backend.call("POST", "/api/introspect", f"token={token}".encode(), form)
        assert asked.body["active"] is (token != "x")
    assert backend.call("POST", "/api/introspect", b"", form).status == 400
    assert admin.post("/api/auth/app-token", {"audience": "shop"}).status == 200
    assert admin.post("/api/auth/app-token", {"audience": "x"}).status == 400
    assert len(nobody.get("/.well-known/jwks.json").body["keys"]) == 1
    assert admin.get("/api/auth/verify").status == 200
    assert nobody.get("/api/auth/verify").status == 401


def keep_webhooks(admin: Witness) -> None:
    """Made, tested, replayed and deleted. Nobody answers there: the address is a document's."""
    hooks = "/api/admin/webhooks"
    asked = {"url": "https://192.0.2.1/x", "events": ["user.created"]}
    assert admin.post(hooks, asked).status == 400
    hook = f"{hooks}/{admin.post(hooks, asked | {'url': 'https://x.invalid/x'}).body['id']}"
    (row,) = admin.get(hooks).body["items"]
    assert "secret" not in row
    tested = admin.post(hook + "/test")
    assert tested.status == 202
    wait_until(lambda: admin.get(hook + "/deliveries?state=failed&limit=1").body["items"])
    assert admin.get(hook + "/deliveries?state=x").status == 400
    replay = f"{hook}/deliveries/{tested.body['id']}/replay"
    assert admin.post(replay).status == 202
    assert admin.post(f"{hook}/deliveries/0/replay").status == 404
    assert admin.call("DELETE", hook).status == 204
    assert admin.call("DELETE", hook).status == 404


def administer(admin: Witness, user: Witness) -> None:
    page = admin.get("/api/admin/users?limit=1").body
    assert len(page["items"]) == 1
    admin.get(f"/api/admin/users?after={page['next']}")
    where = f"/api/admin/users/{user.user['id']}"
    assert admin.get(where).body["name"] == user.user["name"]
    assert admin.get("/api/admin/users/nobody").status == 404
    newest = admin.get("/api/admin/users?q=a&order=newest&limit=1").body
    admin.get(f"/api/admin/users?q=a&after={newest['next']}")
    assert admin.get("/api/admin/users?q=a&after=x").status == 400
    for name in ("overview", "settings", "providers"):
        assert admin.get(f"/api/admin/{name}").status == 200
    (name,) = [row["name"] for row in admin.get("/api/admin/providers").body["items"]]
    assert admin.post(f"/api/admin/providers/{name}/check").status == 200
    assert admin.post("/api/admin/providers/nobody/check").status == 404
    assert admin.call("PATCH", where, {"role": "admin"}).status == 200
    assert admin.post(where + "/disconnect").status == 204
    backend = admin.again()
    key = admin.post("/api/admin/api-keys", {"name": "Guard", "scopes": ["disconnect"]})
    backend.token = key.body["key"]
    assert backend.post(where + "/disconnect").status == 204
    assert backend.post("/api/publish", {"room": "channel:x", "event": "x"}).status == 403
    assert admin.call("DELETE", where).status == 204
    assert admin.call("DELETE", where).status == 404
    invitations = "/api/admin/invitations"
    made = admin.post(invitations, {"email": address()})
    assert made.status == 201
    body = {"invitation": made.body["url"].partition("#invitation=")[2]}
    assert admin.again().post("/api/oauth/providers/mock/signup", body).status == 200
    assert admin.get(f"{invitations}?limit=1").status == 200
    assert admin.call("DELETE", f"{invitations}/{made.body['id']}").status == 204
    wait_until(lambda: bool(admin.get("/api/admin/audit?limit=1").body["items"]))
    admin.get("/api/admin/audit?kind=user.&limit=1")


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


# ---- events against AsyncAPI ---------------------------------------------------------------


def operations(asyncapi: Json, action: str) -> set[str]:
    return {
        name.removeprefix("server.")
        for name, does in asyncapi["operations"].items()
        if does["action"] == action
    }


def test_events_and_asyncapi_are_the_same(asyncapi: Json) -> None:
    assert operations(asyncapi, "receive") == set(CLIENT_EVENTS)
    assert operations(asyncapi, "send") == {*ALL_SERVER_EVENTS, PUBLISHED}
    assert PUBLISHED not in ALL_SERVER_EVENTS
    summaries = [event.summary for event in CLIENT_EVENTS.values()]
    summaries += [event.summary for event in ALL_SERVER_EVENTS.values()]
    assert all(summary.endswith(".") for summary in summaries)


def sent_events() -> set[str]:
    """The names that the code gives to `encode_event`, read from its source."""
    names = set()
    for path in (*(ROOT / "handlers").rglob("*.py"), *(ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("encode_event"):
                name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                assert isinstance(name, str), f"{path}: a name made at run time"
                names.add(name)
    return names


def test_every_event_that_the_code_sends_is_described() -> None:
    # A message's text is put together around the bytes that lie in the room's log.
    assert sent_events() | {"reply", "message"} == set(ALL_SERVER_EVENTS)


async def conversation(server: Usher) -> tuple[list[Json], dict[str, list[Json]]]:
    """Events of the server, and replies by event, good and bad, until the token ends."""
    ada = sign_up(server)
    replies: dict[str, list[Json]] = {name: [] for name in EVENTS}
    async with connect(server) as socket:
        replies["user-join"].append(await ask(socket, "user-join", {"auth": {"token": ada.token}}))
        for data in ({"token": new_token(ada)}, {"token": "x"}, {"token": 1}):
            replies["token-refresh"].append(await ask(socket, "token-refresh", data))
        replies["heartbeat"].append(await ask(socket, "heartbeat"))
        replies["user-join"].append(await ask(socket, "user-join", {"auth": {"token": "x"}}))
        unknown = await ask(socket, "no-such-event")
    events = [unknown]
    async with connect(server, subprotocols=bearer(new_token(ada))) as socket:
        while not events or events[-1]["event"] != "closing":
            events.append(await receive(socket))
    return events, replies


@pytest.mark.gen_test
async def test_a_real_socket_conforms_to_the_document(asyncapi: Json) -> None:
    messages = asyncapi["components"]["messages"]
    with usher("sqlite", ACCESS_TOKEN_TTL_SECONDS=5) as server:
        events, replies = await conversation(server)
    assert {event["event"] for event in events} == set(SERVER_EVENTS)
    for event in events:
        fits(event, messages[f"server.{event['event']}"]["payload"], asyncapi)
    for name in ("user-join", "token-refresh"):
        assert {reply["ok"] for reply in replies[name]} == {True, False}
    for name, answers in replies.items():
        for reply in answers:
            fits(reply, messages[f"{name}.reply"]["payload"], asyncapi)
            fits(reply, messages["server.reply"]["payload"], asyncapi)


async def room_talk(owner: Talker, guest: Talker) -> dict[str, list[Json]]:
    """Every event of rooms, as it is taken and as it is refused. The replies by event."""
    channel = owner.client.post("/api/channels", {"name": "Herons"}).body["id"]
    room, seat = f"channel:{channel}", f"/api/channels/{channel}/members/{guest.id}"
    in_room, foreign = {"room": room}, {"room": f"user:{owner.id}"}
    asked: list[tuple[Talker, str, Any]] = [
        (guest, name, foreign)
        for name in ROOM_EVENTS
        if name not in ("join-channels", "usage", "watch-sessions")
    ]
    asked += [(guest, "usage", {"model": ""}), (guest, "history", 1)]
    assert owner.client.call("PUT", seat, {"right": "write"}).status == 200
    await guest.next("access-changed", lambda data: room in data["rooms"])
    # A user who joins and leaves between two notices is not announced.
    await owner.next("presence", lambda data: guest.member in data["joined"])
    asked += [(guest, name, in_room) for name in ("leave", "join", "presence", "typing")]
    asked += [(guest, "join-channels", None), (guest, "usage", {"model": "small"})]
    asked += [(guest, "watch-sessions", None)]
    asked += [
        (guest, "message", {**in_room, "data": {"n": 1}}),
        (guest, "message", {**in_room, "data": None}),
    ]
    asked += [(guest, "history", in_room), (guest, "history", {**in_room, "after": "gone"})]
    replies: dict[str, list[Json]] = {}
    for talker, name, data in asked:
        replies.setdefault(name, []).append(await talker.ask(name, data))
    published = {**in_room, "event": "build-done", "data": None}
    assert owner.client.post("/api/publish", published).status == 204
    assert owner.client.call("DELETE", seat).status == 204
    await owner.next("presence", lambda data: data["left"] == [guest.member])
    await owner.frame("build-done")
    await guest.next("access-changed", lambda data: room not in data["rooms"])
    return replies


@pytest.mark.gen_test
async def test_rooms_conform_to_the_document(database_kind: str, asyncapi: Json) -> None:
    messages = asyncapi["components"]["messages"]
    with usher(database_kind) as server:
        owner, guest = sign_up(server), sign_up(server)
        async with talking(server, owner) as first, talking(server, guest) as second:
            replies = await room_talk(first, second)
            async with talking(server, guest):
                await second.next("sessions-changed")
            events = first.events + second.events
    # The one that is missing takes another Redis: tests/flows/test_redis_replaced.py.
    reported = {"joined", "build-done", *ROOM_SERVER_EVENTS} - {"gap"}
    assert {event["event"] for event in events} == reported
    for event in (*events, json.loads(gap_event("channel:herons"))):
        name = event["event"] if event["event"] in ALL_SERVER_EVENTS else PUBLISHED
        fits(event, messages[f"server.{name}"]["payload"], asyncapi)
    assert set(replies) == set(ROOM_EVENTS)
    for name, answers in replies.items():
        good = {True} if name in ("join-channels", "watch-sessions") else {True, False}
        assert {reply["ok"] for reply in answers} == good, name
        for reply in answers:
            fits(reply, messages[f"{name}.reply"]["payload"], asyncapi)
    read = [reply["data"] for reply in replies["history"] if reply["ok"]]
    assert [len(data["messages"]) for data in read] == [2, 0]
    assert [data["complete"] for data in read] == [True, False]


# ---- close codes, in every place -----------------------------------------------------------


def test_close_codes_are_explained_everywhere(asyncapi: Json) -> None:
    assert list(CLOSE_MEANINGS) == list(CloseCode)
    assert list(RETRY_MEANINGS) == list(Retry)
    expected = [[str(int(c)), c.reason, c.retry.value, CLOSE_MEANINGS[c]] for c in CloseCode]
    assert table(PROTOCOL, "close") == expected
    assert [[str(value) for value in row.values()] for row in asyncapi["x-close-codes"]] == expected


def test_the_limits_are_those_of_the_code() -> None:
    limits = {row[0]: row[1] for row in table(PROTOCOL, "what")}
    assert limits["a message"] == f"{MAX_MESSAGE_BYTES // 1024} KiB"
    assert limits["a message before the join"] == f"{MAX_UNJOINED_MESSAGE_BYTES // 1024} KiB"
    assert limits["unread data of a slow client"].startswith(f"{OUTBOX_BYTES // 1024} KiB")
    assert limits["the name of a room, of a model"] == f"{MAX_ROOM_NAME} characters"
    page = f"{HISTORY_PAGE} messages or {HISTORY_BYTES // 1024} KiB"
    assert limits["a reply to `history`"] == page
    assert limits["users named by `presence`"] == f"{MAX_PEOPLE:,}"
    assert limits["users in one `presence` event"] == str(PEOPLE_AT_ONCE)
    assert limits["a use that is not repeated"] == f"{FADE_SECONDS:.0f} seconds"
    said = CLOSE_MEANINGS[CloseCode.MESSAGE_TOO_BIG] + CLOSE_MEANINGS[CloseCode.SLOW_CONSUMER]
    numbers = (MAX_MESSAGE_BYTES, MAX_UNJOINED_MESSAGE_BYTES, OUTBOX_BYTES)
    assert re.findall(r"(\d+) KiB", said) == [str(number // 1024) for number in numbers]


# ---- docs/protocol.md and README.md --------------------------------------------------------


def test_the_events_of_the_protocol_document_are_those_of_the_code() -> None:
    assert [row[0] for row in table(PROTOCOL, "client sends")] == list(CLIENT_EVENTS)
    assert [row[0] for row in table(PROTOCOL, "server sends")] == list(ALL_SERVER_EVENTS)


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run_example(server: Usher, number: int) -> str:
    """What an example prints that follows the beginning which all of them have."""
    beginning, *examples = blocks(PROTOCOL)
    assert len(examples) == 8
    script = (beginning + examples[number - 1]).replace("http://127.0.0.1:8888", server.url)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        env={**os.environ, "no_proxy": "*"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("way", [1, 2, 3, 4, 5])
def test_the_examples_of_the_five_methods_join(server: Usher, way: int) -> None:
    frame = json.loads(run_example(server, way))
    assert frame["event"] == ("reply" if way == 5 else "joined")
    assert frame["data"]["user"]["name"] == "Ada"


def test_in_the_example_of_a_room_two_users_talk(own: Usher) -> None:
    # Not the server of all: it opens a channel to everybody, which others would see in their lists.
    said, kept = run_example(own, 6).splitlines()
    assert said == "Ada tea?"
    assert "'data': 'tea?'" in kept


def test_in_the_example_of_a_step_up_the_room_is_entered(own: Usher) -> None:
    assert run_example(own, 7).splitlines() == ["True"]


def test_the_example_for_authors_of_clients_leaves_its_loop_at_a_refusal(server: Usher) -> None:
    assert run_example(server, 8).splitlines() == ["closing", "4401 login"]


def test_the_settings_of_the_readme_are_those_of_the_code() -> None:
    rows = table(README, "name")
    assert [row[0] for row in rows] == [setting.name for setting in SETTINGS]
    for row, setting in zip(rows, SETTINGS, strict=True):
        shown = {setting.default, setting.shown_default} - {"", None}
        assert row[1].strip("`") in shown, setting.name
        assert row[2], setting.name


# ---- the page ------------------------------------------------------------------------------


def test_the_page_shows_every_call_event_and_close_code(own: Usher, openapi: Json) -> None:
    page = Client(own).get("/docs").text.decode()
    for _, _, call in described_calls(openapi):
        assert f'id="{call["operationId"]}"' in page
    for event in CLIENT_EVENTS:
        assert f'id="client-event-{event}"' in page
    for event in (*ALL_SERVER_EVENTS, PUBLISHED):
        assert f'id="server-event-{event}"' in page
    for code in CloseCode:
        assert f"<strong>{int(code)}</strong> <code>{code.reason}</code>" in page
    assert len(re.findall("<article ", page)) == (
        sum(1 for _ in described_calls(openapi)) + len(CLIENT_EVENTS) + len(ALL_SERVER_EVENTS) + 1
    )


def test_the_page_needs_no_script_and_no_style_of_its_own(own: Usher) -> None:
    answer = Client(own).get("/docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = answer.text.decode()
    assert re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", page) is None
    style = re.findall(r'<link rel="stylesheet" href="([^"]+)">', page)
    assert [Client(own).get(path).status for path in style] == [200]


def test_links_of_the_page_lead_somewhere(own: Usher) -> None:
    page = Client(own).get("/docs").text.decode()
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    links = set(re.findall(r'<a [^>]*href="([^"]+)"', page))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    outward = [link for link in links if not link.startswith("#")]
    assert {Client(own).get(link).status for link in outward} == {200}


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json", "/docs"])
def test_a_document_is_sent_once(own: Usher, path: str) -> None:
    client = Client(own)
    first = client.get(path)
    assert first.status == 200
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.call("GET", path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.text) == (304, b"")
    assert client.get(path).text == first.text
