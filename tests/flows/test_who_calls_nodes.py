"""Two nodes: who is logged out on one is refused by introspection and verification on the other at
once, and gets no app token any more."""

from __future__ import annotations

from urllib.parse import urlencode

import jwt
import pytest

from tests.support.databases import kinds
from tests.support.nodes import at, nodes
from tests.support.server import Client, sign_up
from tests.support.tools import first_of

# Several nodes are run on PostgreSQL, as a rule; test_nodes_flow.py has them on one SQLite file.
database_kind = kinds("postgresql")

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("end", first_of(["logout", "disabled", "deleted"], 1))
def test_a_logged_out_user_is_refused_on_the_other_node_at_once(
    database_kind: str, end: str
) -> None:
    with nodes(database_kind, APP_AUDIENCES="shop") as installation:
        here, there = installation[0], installation[1]
        body = {"name": "shop", "scopes": ["introspect"]}
        made = installation.admin.post("/api/admin/api-keys", body).body
        backend = Client(there, token=made["key"])

        def reported(token: str) -> object:
            form = urlencode({"token": token}).encode()
            answer = backend.call("POST", "/api/introspect", form, FORM)
            assert answer.status == 200
            return answer.body["active"]

        for _ in range(5):
            ada = sign_up(here)
            elsewhere = at(there, ada)
            assert ada.token is not None
            app = ada.post("/api/auth/app-token", {"audience": "shop"}).body["token"]
            keys = jwt.PyJWKClient(f"{there.url}/.well-known/jwks.json")
            key = keys.get_signing_key_from_jwt(app)
            jwt.decode(app, key, ["ES256"], audience="shop", issuer=there.origin)
            assert reported(ada.token) is reported(app) is True
            assert elsewhere.get("/api/auth/verify").status == 200
            if end == "logout":
                assert ada.post("/api/auth/logout").status == 204
            else:
                path = f"/api/admin/users/{ada.user['id']}"
                method, change = (
                    ("PATCH", {"disabled": True}) if end == "disabled" else ("DELETE", None)
                )
                assert installation.admin.call(method, path, change).status in (200, 204)
            assert reported(ada.token) is False
            assert reported(app) is False
            assert elsewhere.get("/api/auth/verify").status == 401
            for client in (ada, elsewhere):
                answer = client.post("/api/auth/app-token", {"audience": "shop"})
                assert answer.status == 401


def test_a_key_that_is_deleted_on_one_node_is_refused_on_the_other_at_once(
    database_kind: str,
) -> None:
    with nodes(database_kind) as installation:
        there = installation[1]
        for _ in range(5):
            body = {"name": "shop", "scopes": ["introspect"]}
            made = installation.admin.post("/api/admin/api-keys", body).body
            backend = Client(there, token=made["key"])
            for _ in range(2):
                assert backend.call("POST", "/api/introspect", b"token=x", FORM).status == 200
            path = f"/api/admin/api-keys/{made['id']}"
            assert installation.admin.call("DELETE", path).status == 204
            assert backend.call("POST", "/api/introspect", b"token=x", FORM).status == 401
