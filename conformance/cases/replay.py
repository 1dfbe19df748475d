"""Credentials that are used twice."""

from __future__ import annotations

import asyncio

from conformance.socket import Socket
from conformance.trial import Trial
from conformance.verdict import Broken, same

AT_ONCE = 8


async def ticket_once(trial: Trial) -> None:
    ticket = await (await trial.ada()).ticket()
    first = await trial.by_ticket(ticket)
    await first.event("joined")
    second = await trial.by_ticket(ticket, trial.target.far)
    await second.is_closed_with(4401, trial.target.patience)
    await first.alive()


async def ticket_race(trial: Trial) -> None:
    ticket = await (await trial.ada()).ticket()
    nodes = [(trial.target.near, trial.target.far)[number % 2] for number in range(AT_ONCE)]
    sockets = await asyncio.gather(*(trial.by_ticket(ticket, node) for node in nodes))
    let_in = sum(await asyncio.gather(*(_joined(socket) for socket in sockets)))
    same(let_in, 1, f"sockets that one ticket opened, of {AT_ONCE} at the same time")


async def _joined(socket: Socket) -> bool:
    try:
        await socket.event("joined")
    except Broken:
        return False
    return True


async def ticket_of_ended_session(trial: Trial) -> None:
    ada = await trial.session()
    ticket = await ada.ticket()
    await ada.http.do("POST", "/api/auth/logout", status=204)
    socket = await trial.by_ticket(ticket)
    await socket.is_closed_with(4401, trial.target.patience)


async def ticket_expires_in(trial: Trial) -> None:
    ada = await trial.ada()
    made = await ada.http.do("POST", "/api/ws/ticket", status=201)
    expires_in = made.get("expires_in")
    if not isinstance(expires_in, int | float) or not 0 < expires_in <= 300:
        raise Broken(f"expires_in of a ticket: {expires_in!r}")
    if expires_in > 40:
        return
    await asyncio.sleep(expires_in + 1)
    socket = await trial.by_ticket(str(made["ticket"]))
    await socket.is_closed_with(4401, trial.target.patience)


async def token_header(trial: Trial) -> None:
    ada = await trial.ada()
    first = await trial.by_header(ada.token)
    await first.event("joined")
    second = await trial.by_header(ada.token)
    await second.event("joined")
    await first.is_closed_with(4409, trial.target.cut_seconds)
    await second.alive()


async def token_other_way(trial: Trial) -> None:
    ada = await trial.ada()
    first = await trial.by_subprotocol(ada.token)
    await first.event("joined")
    second = await trial.open()
    await second.do("user-join", {"auth": {"token": ada.token}})
    await first.is_closed_with(4409, trial.target.cut_seconds)
    await second.alive()


async def token_other_node(trial: Trial) -> None:
    ada = await trial.ada()
    first = await trial.by_subprotocol(ada.token, trial.target.far)
    await first.event("joined")
    second = await trial.by_subprotocol(ada.token)
    await second.event("joined")
    await first.is_closed_with(4409, trial.target.cut_seconds)
    await second.alive()


async def cookie_per_tab(trial: Trial) -> None:
    ada = await trial.browser()
    tabs = [await trial.by_cookie(ada.http) for _ in range(3)]
    for tab in tabs:
        await tab.event("joined")
    for tab in tabs:
        await tab.alive()
