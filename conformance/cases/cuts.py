"""Sockets that are closed, each by its cause, on the near and on the far node."""

from __future__ import annotations

import asyncio
from typing import Any

from conformance.http import Http, json_of
from conformance.people import Person
from conformance.trial import Trial
from conformance.verdict import NotRun, expect, same

GRACE_SECONDS = 10.0
"""In which the contract lets parallel tabs use a refresh token again."""


async def _is_dead(trial: Trial, person: Person) -> None:
    """Nothing of a login session is accepted any more, on any node."""
    for node in (trial.target.near, trial.target.far):
        http = await trial.nobody(node)
        http.token = person.token
        await http.refused("GET", "/api/auth/me", 401)
    body = {"refresh_token": person.refresh_token}
    await (await trial.nobody()).refused("POST", "/api/auth/refresh", 401, body=body)
    await trial.refused_by_header(person.token, 401)


async def logout(trial: Trial) -> None:
    ada = await trial.session()
    sockets = await trial.everywhere(ada)
    await ada.http.do("POST", "/api/auth/logout", status=204)
    await trial.all_closed(sockets)
    await _is_dead(trial, ada)


async def others_live(trial: Trial) -> None:
    other, ben = await trial.ada(), await trial.ben()
    ada = await trial.again(other)
    cut = await trial.joined(ada)
    stay = [*await trial.everywhere(other), *await trial.everywhere(ben)]
    await ada.http.do("POST", "/api/auth/logout", status=204)
    await trial.all_closed([cut])
    for socket in stay:
        await socket.alive()


async def nothing_after(trial: Trial) -> None:
    ada, ben = await trial.session(), await trial.ben()
    room = await trial.channel(ben, ada)
    cut, speaker = await trial.joined(ada), await trial.joined(ben)
    await ada.http.do("POST", "/api/auth/logout", status=204)
    await speaker.do("message", {"room": room, "data": "after the logout"})
    await cut.send("message", {"room": room, "data": "of the one who left"}, 1)
    await trial.all_closed([cut])
    said = [(one["data"] or {}).get("data") for one in cut.events if one["event"] == "message"]
    expect("after the logout" not in said, "a message came to a socket after its logout")
    found = await speaker.do("history", {"room": room})
    texts = [one.get("data") for one in found.get("messages") or []]
    same(texts, ["after the logout"], "messages in the room")


async def password(trial: Trial) -> None:
    ada = await trial.newcomer()
    other = await trial.again(ada)
    stay, sockets = await trial.joined(ada), await trial.everywhere(other)
    old, new = ada.account.password, f"{ada.account.password}-new"
    body = {"current_password": old, "new_password": new}
    await ada.http.do("POST", "/api/auth/password", body, 204)
    ada.account.password = new
    await trial.all_closed(sockets)
    await _is_dead(trial, other)
    await stay.alive()


async def _sessions(person: Person) -> list[dict[str, Any]]:
    found = await person.http.do("GET", "/api/sessions")
    items: list[dict[str, Any]] = found.get("items") or []
    return items


async def session_ended(trial: Trial) -> None:
    ada = await trial.newcomer()
    other = await trial.again(ada)
    sockets = await trial.everywhere(other)
    (ended,) = [one["id"] for one in await _sessions(other) if one.get("current")]
    await ada.http.do("DELETE", f"/api/sessions/{ended}", status=204)
    await trial.all_closed(sockets)
    await _is_dead(trial, other)
    left = [one["id"] for one in await _sessions(ada)]
    expect(ended not in left, "an ended session is still in the list")


async def other_sessions_ended(trial: Trial) -> None:
    ada = await trial.newcomer()
    others = [await trial.again(ada), await trial.again(ada)]
    stay = await trial.joined(ada)
    sockets = [socket for other in others for socket in await trial.everywhere(other)]
    answer = await ada.http.call("DELETE", "/api/sessions")
    expect(answer.status_code in {200, 204}, f"DELETE /api/sessions: {answer.status_code}")
    await trial.all_closed(sockets)
    await stay.alive()


async def deleted(trial: Trial) -> None:
    ada = await trial.newcomer()
    sockets = await trial.everywhere(ada)
    await ada.http.do("DELETE", "/api/auth/me", status=204)
    ada.account.gone = True
    await trial.all_closed(sockets)
    await _is_dead(trial, ada)


async def deleted_by_admin(trial: Trial) -> None:
    admin, ada = await trial.administrator(), await trial.newcomer()
    sockets = await trial.everywhere(ada)
    answer = await admin.call("DELETE", f"/api/admin/users/{ada.id}")
    if answer.status_code in {401, 403}:
        raise NotRun(f"--admin-token may not delete users: {json_of(answer).get('code')}")
    same(answer.status_code, 204, "status of DELETE /api/admin/users/{id}")
    ada.account.gone = True
    await trial.all_closed(sockets)
    await _is_dead(trial, ada)


async def longest_unused(trial: Trial) -> None:
    limit, most = trial.target.max_sessions, trial.target.limit_signins
    if limit < 2 or 0 < most <= limit:
        raise NotRun(f"--max-sessions {limit} is more than one user may have within an hour")
    oldest = await trial.newcomer()
    sockets = await trial.everywhere(oldest)
    for _ in range(limit - 1):
        newest = await trial.again(oldest)
    for socket in sockets:
        await socket.alive()
    newest = await trial.again(oldest)
    await trial.all_closed(sockets)
    await _is_dead(trial, oldest)
    await (await trial.joined(newest)).alive()


async def _change(http: Http, person: Person, body: dict[str, Any]) -> None:
    answer = await http.call("PATCH", f"/api/admin/users/{person.id}", body)
    if answer.status_code in {401, 403}:
        code = json_of(answer).get("code")
        raise NotRun(f"may not set {', '.join(body)}: {answer.status_code} {code}")
    same(answer.status_code, 200, f"status of PATCH /api/admin/users with {', '.join(body)}")


async def disabled(trial: Trial) -> None:
    admin, ada = await trial.admin(), await trial.newcomer()
    sockets = await trial.everywhere(ada)
    await _change(admin, ada, {"disabled": True})
    try:
        await trial.all_closed(sockets)
        await _is_dead(trial, ada)
    finally:
        await _change(admin, ada, {"disabled": False})
    await _is_dead(trial, ada)


async def role_removed(trial: Trial) -> None:
    admin, ada = await trial.administrator(), await trial.newcomer()
    await _change(admin, ada, {"role": "admin"})
    try:
        again = await trial.again(ada)
        sockets = await trial.everywhere(again)
    finally:
        await _change(admin, ada, {"role": "user"})
    await trial.all_closed(sockets, 4419)
    token = await again.refresh()
    joined = await (await trial.by_subprotocol(token)).event("joined")
    same((joined.get("user") or {}).get("role"), "user", "role after the refresh")


async def disconnected(trial: Trial) -> None:
    admin, ada = await trial.admin(), await trial.newcomer()
    sockets = await trial.everywhere(ada)
    answer = await admin.call("POST", f"/api/admin/users/{ada.id}/disconnect")
    if answer.status_code == 403:
        raise NotRun("--admin-key lacks the scope disconnect")
    expect(answer.status_code in {200, 204}, f"disconnect: status {answer.status_code}")
    await trial.all_closed(sockets)
    await _is_dead(trial, ada)


async def refresh_replayed(trial: Trial) -> None:
    ada = await trial.session()
    copied = ada.refresh_token
    await ada.refresh()
    await ada.refresh()
    sockets = await trial.everywhere(ada)
    await asyncio.sleep(GRACE_SECONDS + 1)
    thief = await trial.nobody()
    body = {"refresh_token": copied}
    await thief.refused("POST", "/api/auth/refresh", 401, body=body)
    await trial.all_closed(sockets)
    await _is_dead(trial, ada)


async def refresh_in_grace(trial: Trial) -> None:
    ada = await trial.session()
    body = {"refresh_token": ada.refresh_token}
    tabs = [await trial.nobody() for _ in range(3)]
    answers = await asyncio.gather(*(one.call("POST", "/api/auth/refresh", body) for one in tabs))
    same([one.status_code for one in answers], [200] * 3, "status of parallel refreshes")
    await (await trial.joined(ada)).alive()
