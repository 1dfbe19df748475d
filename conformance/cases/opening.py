"""The five ways to present a credential, and what stands beside them."""

from __future__ import annotations

from typing import Any

from conformance.people import Person
from conformance.socket import HandshakeRefused, Json, Socket
from conformance.trial import Trial
from conformance.verdict import Broken, expect, same


async def _is_joined(socket: Socket, person: Person) -> None:
    _complete(await socket.event("joined"), person)


def _complete(joined: Json, person: Person) -> None:
    user: Any = joined.get("user") or {}
    same(user.get("id"), person.id, "user.id of the join")
    expect(isinstance(user.get("name"), str), "the join has no user.name")
    expect(isinstance(user.get("role"), str), "the join has no user.role")
    expect(isinstance(joined.get("session_id"), str), "the join has no session_id")
    expires_at = joined.get("expires_at")
    expect(isinstance(expires_at, int | float), "the join has no expires_at in epoch seconds")
    rooms = joined.get("rooms")
    expect(isinstance(rooms, list), "the join has no list of rooms")
    expect(f"user:{person.id}" in (rooms or []), "the user's own room is not among the rooms")


async def header(trial: Trial) -> None:
    ada = await trial.ada()
    await _is_joined(await trial.by_header(ada.token), ada)


async def subprotocol(trial: Trial) -> None:
    ada = await trial.ada()
    socket = await trial.by_subprotocol(ada.token)
    same(socket.subprotocol, "usher.v1", "selected subprotocol")
    await _is_joined(socket, ada)


async def ticket(trial: Trial) -> None:
    ada = await trial.ada()
    await _is_joined(await trial.by_ticket(await ada.ticket()), ada)


async def cookie(trial: Trial) -> None:
    ada = await trial.browser()
    await _is_joined(await trial.by_cookie(ada.http), ada)


async def user_join(trial: Trial) -> None:
    ada = await trial.ada()
    socket = await trial.open()
    _complete(await socket.do("user-join", {"auth": {"token": ada.token}}), ada)


async def user_join_without_id(trial: Trial) -> None:
    ada = await trial.ada()
    socket = await trial.open()
    await socket.send("user-join", {"auth": {"token": ada.token}})
    await _is_joined(socket, ada)


async def cookie_without_origin(trial: Trial) -> None:
    ada, ben = await trial.browser(), await trial.ben()
    socket = await trial.by_cookie(ada.http, origin=None)
    # Had the cookie counted, the token would be of another user than the socket.
    _complete(await socket.do("user-join", {"auth": {"token": ben.token}}), ben)


async def ticket_beside_cookie(trial: Trial) -> None:
    ada = await trial.browser()
    name, value = ada.http.cookie()
    headers = {"Cookie": f"{name}={value}"}
    socket = await trial.by_ticket(await ada.ticket(), headers=headers, origin=trial.target.origin)
    await _is_joined(socket, ada)


async def header_beside_cookie(trial: Trial) -> None:
    ada = await trial.browser()
    name, value = ada.http.cookie()
    headers = {"Cookie": f"{name}={value}", "Authorization": f"Bearer {value}"}
    await _is_joined(await trial.open(headers=headers, origin=trial.target.origin), ada)


async def foreign_origin(trial: Trial) -> None:
    ada = await trial.ada()
    ticket = await ada.ticket()
    try:
        await trial.by_ticket(ticket, origin="https://foreign.invalid")
    except HandshakeRefused as refused:
        same(refused.status, 403, "status of a handshake from a foreign Origin")
    else:
        raise Broken("a handshake from a foreign Origin got a socket")
    browser = await trial.browser()
    for origin in ("https://foreign.invalid", "null", f"{trial.target.origin}.foreign.invalid"):
        try:
            await trial.by_cookie(browser.http, origin=origin)
        except HandshakeRefused as refused:
            same(refused.status, 403, f"status of a handshake with a cookie from {origin}")
        else:
            raise Broken(f"a handshake with a cookie from {origin} got a socket")
    # Refused before any credential was used up.
    await _is_joined(await trial.by_ticket(ticket), ada)
