"""Every call of OpenAPI on a real server: the responses to valid requests are those described."""

from __future__ import annotations

from tests.docs.documents import Json, described_calls
from tests.docs.witness import Witness
from tests.support.authenticator import lost_factors, second_factors
from tests.support.mail_server import Mailbox
from tests.support.native import App
from tests.support.provider import Provider, provider
from tests.support.server import PASSWORD, address, usher, wait_until
from tests.support.sign_in import begin, come_back, settings_for


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
