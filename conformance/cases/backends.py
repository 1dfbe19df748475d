"""What backends rely on: introspection, app tokens, API keys, and what they publish."""

from __future__ import annotations

import secrets
from typing import Any

import jwt

from conformance.http import Http, Json, json_of
from conformance.people import issuer_of
from conformance.trial import Trial
from conformance.verdict import Broken, NotRun, expect, same

LONGEST_APP_TOKEN = 300


async def _introspector(trial: Trial) -> Http:
    admin = await trial.admin()
    answer = await admin.call("POST", "/api/introspect", form={"token": "not-a-token"})
    if answer.status_code in {401, 403}:
        raise NotRun("--admin-key is no API key with the scope introspect")
    same(json_of(answer), {"active": False}, "introspection of no token")
    return admin


async def introspection(trial: Trial) -> None:
    admin, ada = await _introspector(trial), await trial.session()
    form = {"token": ada.token}
    found = json_of(await admin.call("POST", "/api/introspect", form=form))
    same((found.get("active"), found.get("sub")), (True, ada.id), "active and sub")
    await ada.http.do("POST", "/api/auth/logout", status=204)
    far = await trial.nobody(trial.target.far)
    far.token = admin.token
    for node in (admin, far):
        after = json_of(await node.call("POST", "/api/introspect", form=form))
        same(after, {"active": False}, "introspection after the logout")


async def introspected_ticket(trial: Trial) -> None:
    admin, ada = await _introspector(trial), await trial.ada()
    ticket = await ada.ticket()
    found = json_of(await admin.call("POST", "/api/introspect", form={"token": ticket}))
    same(found, {"active": False}, "introspection of a ticket")
    await (await trial.by_ticket(ticket)).event("joined")


async def introspection_is_closed(trial: Trial) -> None:
    ada, nobody = await trial.ada(), await trial.nobody()
    for http, statuses in ((nobody, {401}), (ada.http, {401, 403})):
        answer = await http.call("POST", "/api/introspect", form={"token": ada.token})
        expect(answer.status_code in statuses, f"introspection without a key: {answer.status_code}")


# ---- app tokens ----------------------------------------------------------------------------


async def _app_token(trial: Trial, http: Http) -> str:
    audience = trial.target.app_audience
    if audience is None:
        raise NotRun("needs --app-audience")
    found = await http.do("POST", "/api/auth/app-token", {"audience": audience})
    return str(found.get("token"))


async def app_token(trial: Trial) -> None:
    ada = await trial.ada()
    token = await _app_token(trial, ada.http)
    header = jwt.get_unverified_header(token)
    same((header.get("alg"), header.get("typ")), ("ES256", "at+jwt"), "alg and typ")
    published = await (await trial.nobody()).do("GET", "/.well-known/jwks.json")
    keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(published).keys}
    expect(header.get("kid") in keys, "the key of an app token is not published")
    issuer, audience = trial.target.public_url or issuer_of(ada.token), trial.target.app_audience
    leeway = LONGEST_APP_TOKEN  # the clocks of both machines are no promise
    try:
        claims: Json = jwt.decode(
            token, keys[header["kid"]], ["ES256"], audience=audience, issuer=issuer, leeway=leeway
        )
    except jwt.InvalidTokenError as error:
        raise Broken(f"an app token does not verify: {error}") from None
    wanted = {"sub", "sid", "jti", "iat", "exp", "role", "name", "auth_time", "acr"}
    same(wanted - set(claims), set(), "claims that are missing")
    same(claims["sub"], ada.id, "sub")
    life = claims["exp"] - claims["iat"]
    expect(0 < life <= LONGEST_APP_TOKEN, f"an app token lives {life} s")


async def app_token_opens_nothing(trial: Trial) -> None:
    ada, nobody = await trial.ada(), await trial.nobody()
    token = nobody.token = await _app_token(trial, ada.http)
    await trial.refused_by_header(token, 401)
    await (await trial.by_subprotocol(token)).is_closed_with(4401, trial.target.patience)
    for path in ("/api/auth/me", "/api/auth/verify"):
        same((await nobody.call("GET", path)).status_code, 401, f"{path} with an app token")
    same((await nobody.call("POST", "/api/ws/ticket")).status_code, 401, "a ticket for one")


async def app_token_after_logout(trial: Trial) -> None:
    ada = await trial.session()
    token = await _app_token(trial, ada.http)
    await ada.http.do("POST", "/api/auth/logout", status=204)
    body = {"audience": trial.target.app_audience}
    await ada.http.refused("POST", "/api/auth/app-token", 401, body=body)
    if trial.target.admin_key is not None:
        admin = await _introspector(trial)
        found = json_of(await admin.call("POST", "/api/introspect", form={"token": token}))
        same(found, {"active": False}, "introspection of an app token after the logout")


async def app_token_audience(trial: Trial) -> None:
    ada = await trial.ada()
    body = {"audience": f"nobody-{secrets.token_hex(4)}"}
    answer = await ada.http.call("POST", "/api/auth/app-token", body)
    expect(
        400 <= answer.status_code < 500, f"a token for any audience: status {answer.status_code}"
    )


# ---- API keys ------------------------------------------------------------------------------


async def _key(trial: Trial, *scopes: str) -> tuple[Http, Json]:
    """A client with a new key, and the key's row."""
    admin = await trial.administrator()
    body: Json = {"name": "conformance", "scopes": list(scopes)}
    answer = await admin.call("POST", "/api/admin/api-keys", body)
    made = json_of(answer)
    if answer.status_code in {401, 403}:
        raise NotRun(f"--admin-token may not make keys: {made.get('code')}")
    same(answer.status_code, 201, "status of POST /api/admin/api-keys")
    trial.stack.push_async_callback(admin.call, "DELETE", f"/api/admin/api-keys/{made['id']}")
    holder = await trial.nobody()
    holder.token = str(made["key"])
    return holder, made


_NOWHERE: Json = {"room": "channel:no-such-channel", "event": "built", "data": {}}


async def key_scopes(trial: Trial) -> None:
    holder, _ = await _key(trial, "publish")
    await holder.refused("POST", "/api/publish", 404, body=_NOWHERE)
    calls: tuple[tuple[str, str, Any], ...] = (
        ("GET", "/api/admin/users", None),
        ("POST", "/api/admin/users", {"email": "nobody@example.org", "name": "Nobody"}),
        ("POST", "/api/channels", {"name": "conformance"}),
        ("POST", "/api/admin/api-keys", {"name": "more", "scopes": ["users"]}),
        ("GET", "/api/auth/me", None),
    )
    for method, path, body in calls:
        status = (await holder.call(method, path, body)).status_code
        expect(status in {401, 403}, f"{method} {path} with the scope publish: status {status}")
    answer = await holder.call("POST", "/api/introspect", form={"token": "not-a-token"})
    expect(answer.status_code in {401, 403}, "introspection with the scope publish")


async def key_revoked(trial: Trial) -> None:
    holder, made = await _key(trial, "publish")
    await holder.refused("POST", "/api/publish", 404, body=_NOWHERE)
    admin = await trial.administrator()
    listed = (await admin.do("GET", "/api/admin/api-keys")).get("items") or []
    expect(all(holder.token not in one.values() for one in listed), "a key is shown again")
    await admin.do("DELETE", f"/api/admin/api-keys/{made['id']}", status=204)
    await holder.refused("POST", "/api/publish", 401, body=_NOWHERE)


# ---- publishing ----------------------------------------------------------------------------


async def publish(trial: Trial) -> None:
    admin = await trial.admin()
    _, near, _, far, room = await trial.two()
    data = {"build": 7}
    await admin.do("POST", "/api/publish", {"room": room, "event": "built", "data": data}, 204)
    for socket in (near, far):
        frame = await socket.frame("built")
        same((frame.get("room"), frame.get("data")), (room, data), "what was published")


async def publish_kept(trial: Trial) -> None:
    admin = await trial.admin()
    _, near, _, far, room = await trial.two()
    first = await near.do("message", {"room": room, "data": "before"})
    body = {"room": room, "event": "built", "data": 7, "keep": True}
    await admin.do("POST", "/api/publish", body, 204)
    last = await near.do("message", {"room": room, "data": "after"})
    found = await far.do("history", {"room": room})
    messages = found.get("messages") or []
    same([one.get("data") for one in messages], ["before", 7, "after"], "data in history")
    kept = messages[1]
    same((kept.get("event"), kept.get("room")), ("built", room), "event and room in history")
    expect({"id", "sent_at"} <= set(kept), "what was published has no id or sent_at in history")
    same([messages[0]["id"], messages[2]["id"]], [first["id"], last["id"]], "ids in history")


async def publish_once(trial: Trial) -> None:
    admin = await trial.admin()
    _, near, _, _, room = await trial.two()
    headers = {"Idempotency-Key": f"conformance-{secrets.token_hex(8)}"}
    for _ in range(2):
        body = {"room": room, "event": "built", "data": 1}
        answer = await admin.call("POST", "/api/publish", body, headers=headers)
        same(answer.status_code, 204, "status of a repeated publication")
    await admin.do("POST", "/api/publish", {"room": room, "event": "last", "data": 2}, 204)
    await near.frame("last")
    heard = [one for one in near.events if one["event"] == "built"]
    same(len(heard), 1, "times that it was sent, with one Idempotency-Key")


async def publish_to_all_or_none(trial: Trial) -> None:
    admin = await trial.admin()
    _, near, _, _, room = await trial.two()
    body: Json = {"rooms": [room, "channel:no-such-channel"], "event": "built", "data": 1}
    await admin.refused("POST", "/api/publish", 404, body=body)
    await admin.do("POST", "/api/publish", {"rooms": [room], "event": "last", "data": 2}, 204)
    await near.frame("last")
    heard = [one for one in near.events if one["event"] == "built"]
    same(heard, [], "what was sent although one of the rooms does not exist")


async def publish_refused(trial: Trial) -> None:
    admin = await trial.admin()
    ada = await trial.ada()
    room = await trial.channel(ada)
    for name in ("joined", "reply", "closing", "access-changed"):
        reserved: Json = {"room": room, "event": name, "data": {}}
        await admin.refused("POST", "/api/publish", 400, body=reserved)
    await admin.refused("POST", "/api/publish", 404, body=_NOWHERE)
    await ada.http.refused("POST", "/api/publish", 403, body={**_NOWHERE, "room": room})
