"""Rooms: who may enter, what is delivered, what was missed, and what a removed right ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from conformance.people import Person
from conformance.socket import Json, Socket
from conformance.trial import Trial, path_of
from conformance.verdict import expect, same


async def _say(socket: Socket, room: str, data: object) -> str:
    return str((await socket.do("message", {"room": room, "data": data}))["id"])


async def own_room(trial: Trial) -> None:
    ada, ben = await trial.ada(), await trial.ben()
    socket = await trial.joined(ada)
    await socket.refused("join", "forbidden", {"room": f"user:{ben.id}"})
    await socket.refused("history", "forbidden", {"room": f"user:{ben.id}"})


async def private_channel(trial: Trial) -> None:
    ada, ben = await trial.ada(), await trial.ben()
    room = await trial.channel(ada)
    socket = await trial.joined(ben)
    for event in ("join", "history", "presence", "typing"):
        await socket.refused(event, "forbidden", {"room": room})
    await socket.refused("message", "forbidden", {"room": room, "data": 1})
    nowhere = await socket.refused("join", "forbidden", {"room": "channel:no-such-channel"})
    there = await socket.refused("join", "forbidden", {"room": room})
    same(nowhere.get("message"), there.get("message"), "refusals with and without such a room")


async def message(trial: Trial) -> None:
    ada, near, _, far, room = await trial.two()
    said: Json = {"text": "tea?", "numbers": [1, 2.5, None, True]}
    message_id = await _say(near, room, said)
    for socket in (near, far):
        got = await socket.event("message", lambda one: bool(one.get("room") == room))
        same(got.get("id"), message_id, "id of the message")
        same(got.get("data"), said, "data of the message")
        sender: Json = got.get("from") or {}
        same(sender.get("id"), ada.id, "from.id of the message")
        expect(isinstance(sender.get("name"), str), "the message has no from.name")
        expect(isinstance(got.get("sent_at"), int | float), "the message has no sent_at")


async def order(trial: Trial) -> None:
    _, near, _, far, room = await trial.two()
    for number in range(20):
        await near.send("message", {"room": room, "data": number})
    for number in range(20):
        got = await far.event("message", lambda one: bool(one.get("room") == room))
        same(got.get("data"), number, "data of the next message")


async def read_only(trial: Trial) -> None:
    _, near, _, far, room = await trial.two("read")
    await far.refused("message", "forbidden", {"room": room, "data": 1})
    await far.refused("typing", "forbidden", {"room": room})
    await _say(near, room, "read this")
    await far.event("message", lambda one: bool(one.get("data") == "read this"))


async def typing(trial: Trial) -> None:
    ada, near, _, far, room = await trial.two()
    await near.do("typing", {"room": room})
    got = await far.event("typing", lambda one: bool(one.get("room") == room))
    same((got.get("from") or {}).get("id"), ada.id, "from.id of typing")
    await near.alive()
    expect(all(one["event"] != "typing" for one in near.events), "the sender was told too")


async def presence(trial: Trial) -> None:
    ada, near, ben, far, room = await trial.two()
    # Administrators who are on this server may be there as well.
    await _becomes(trial, near, room, lambda ids: {ada.id, ben.id} <= ids, "lacks a member")
    # Changes may be collected for a while, so each is awaited before the next.
    await near.event("presence", lambda one: _names(one, room, "joined", ben))
    await far.do("leave", {"room": room})
    await near.event("presence", lambda one: _names(one, room, "left", ben))
    await _becomes(trial, near, room, lambda ids: ben.id not in ids, "has somebody who left")
    await far.do("join", {"room": room})
    await near.event("presence", lambda one: _names(one, room, "joined", ben))


async def _becomes(
    trial: Trial, socket: Socket, room: str, fits: Callable[[set[object]], bool], fault: str
) -> None:
    """Who is on another node is known here a moment later: the contract has no bound for it."""
    until = time.monotonic() + trial.target.patience
    while not fits(await _present(socket, room)):
        expect(time.monotonic() < until, f"presence {fault}")
        await asyncio.sleep(0.2)


async def _present(socket: Socket, room: str) -> set[object]:
    users = (await socket.do("presence", {"room": room})).get("users") or []
    return {one.get("id") for one in users}


def _names(data: Json, room: str, member: str, who: Person) -> bool:
    named = [one.get("id") for one in data.get(member) or []]
    return data.get("room") == room and who.id in named


async def leave(trial: Trial) -> None:
    _, near, _, far, room = await trial.two()
    same(await far.do("leave", {"room": room}), {"room": room}, "reply to leave")
    await _say(near, room, "while away")
    same(await far.do("join", {"room": room}), {"room": room}, "reply to join")
    await _say(near, room, "back again")
    got = await far.event("message", lambda one: bool(one.get("room") == room))
    same(got.get("data"), "back again", "first message after join")


async def usage(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    reply = await socket.ask("usage", {"model": "conformance"})
    if reply.get("ok"):
        models = (reply.get("data") or {}).get("models")
        expect(isinstance(models, list), "the reply to usage has no list of models")
        return
    # Models are registered, and this is none of them.
    same((reply.get("error") or {}).get("code"), "bad_request", "error code of usage")


async def right_given(trial: Trial) -> None:
    ada, ben = await trial.ada(), await trial.ben()
    room = await trial.channel(ada)
    socket = await trial.joined(ben, trial.target.far)
    await trial.let_in(ada, room, ben)
    await socket.event("access-changed", lambda one: room in (one.get("rooms") or []))
    await _say(socket, room, "let in")


async def right_removed(trial: Trial) -> None:
    ada, near, ben, far, room = await trial.two()
    beside = await trial.joined(ben)
    await trial.put_out(ada, room, ben)
    await _say(near, room, "not for him")
    for socket in (beside, far):
        await socket.event("access-changed", lambda one: room not in (one.get("rooms") or []))
        await socket.refused("message", "forbidden", {"room": room, "data": 1})
    heard = [one for one in beside.events if _is(one, room, "not for him")]
    same(heard, [], "what came to the same node after the right was removed")


def _is(frame: Json, room: str, data: object) -> bool:
    inside: Json = frame.get("data") or {}
    return frame["event"] == "message" and inside.get("room") == room and inside["data"] == data


async def right_lowered(trial: Trial) -> None:
    ada, _, ben, far, room = await trial.two()
    await _say(far, room, "may write")
    await trial.let_in(ada, room, ben, "read")
    await far.event("access-changed")
    await far.refused("message", "forbidden", {"room": room, "data": 1})
    await far.do("history", {"room": room})


async def channel_deleted(trial: Trial) -> None:
    ada, _, _, far, room = await trial.two()
    await ada.http.do("DELETE", path_of(room), status=204)
    await far.event("access-changed", lambda one: room not in (one.get("rooms") or []))
    await far.refused("join", "forbidden", {"room": room})


async def join_channels(trial: Trial) -> None:
    ada, _, ben, far, room = await trial.two()
    rooms = (await far.do("join-channels")).get("rooms") or []
    expect(room in rooms, "the room is not in the reply to join-channels")
    await trial.put_out(ada, room, ben)
    await far.event("access-changed", lambda one: room not in (one.get("rooms") or []))
    rooms = (await far.do("join-channels")).get("rooms") or []
    expect(room not in rooms, "the room is in the reply to join-channels, without a right")


# ---- history -------------------------------------------------------------------------------


async def history(trial: Trial) -> None:
    _, near, _, far, room = await trial.two()
    first = await _say(near, room, "heard")
    missed = [await _say(near, room, number) for number in range(3)]
    found = await far.do("history", {"room": room, "after": first})
    same([one.get("id") for one in found.get("messages") or []], missed, "ids in history")
    same(found.get("complete"), True, "complete")


async def history_re_authorised(trial: Trial) -> None:
    ada, near, ben, far, room = await trial.two()
    first = await _say(near, room, "before")
    await far.do("history", {"room": room})
    await trial.put_out(ada, room, ben)
    await _say(near, room, "meanwhile")
    beside = await trial.joined(ben)
    for asked in ({"room": room}, {"room": room, "after": first}):
        await beside.refused("history", "forbidden", asked)


async def history_unknown_after(trial: Trial) -> None:
    _, near, _, far, room = await trial.two()
    await _say(near, room, "one")
    found = await far.do("history", {"room": room, "after": "1-0"})
    same(found.get("complete"), False, "complete after an id that is not known")
