"""Frames on a socket that has joined, and the refresh of its token."""

from __future__ import annotations

import time

from conformance.socket import Json
from conformance.trial import Trial
from conformance.verdict import expect, same

MANY = 20


async def heartbeat(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    told = (await socket.do("heartbeat")).get("server_time")
    expect(isinstance(told, int | float), "server_time is no number")
    expect(abs(float(told or 0) - time.time()) < 86400, "server_time is not in epoch seconds")


async def one_reply_each(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    ids: list[object] = [f"text-{number}" if number % 2 else number for number in range(MANY)]
    for one in ids:
        await socket.send("heartbeat", None, one)
        await socket.send("heartbeat")
    await socket.send("heartbeat", None, "last")
    got: list[object] = []
    while (reply := await socket.frame("reply"))["id"] != "last":
        got.append(reply["id"])
    same(got, ids, "ids of the replies")


async def unknown_event(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    await socket.refused("no-such-event", "unknown_event")
    await socket.alive()


async def wrong_data(trial: Trial) -> None:
    ada = await trial.ada()
    socket = await trial.joined(ada)
    error = await socket.refused("join", "bad_request", {"room": 7})
    expect("room" in str(error.get("message")), "the message does not name the member `room`")
    error = await socket.refused("message", "bad_request", {"room": f"user:{ada.id}"})
    expect("data" in str(error.get("message")), "the message does not name the member `data`")
    await socket.alive()


async def no_frame(trial: Trial) -> None:
    ada = await trial.ada()
    messages = (
        "not json",
        "[]",
        '{"data": {}}',
        '{"event": 1}',
        '{"event": "heartbeat", "id": {}}',
    )
    for message in messages:
        socket = await trial.joined(ada)
        await socket.send_raw(message)
        await socket.is_closed_with(4400, trial.target.patience)


async def binary(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    await socket.send_raw(b'{"event": "heartbeat"}')
    await socket.is_closed_with(4400, trial.target.patience)


async def join_of_another(trial: Trial) -> None:
    ada, ben = await trial.ada(), await trial.ben()
    socket = await trial.joined(ada)
    await socket.refused("user-join", "identity_mismatch", {"auth": {"token": ben.token}})
    await socket.alive()


# ---- live refresh --------------------------------------------------------------------------


async def refresh(trial: Trial) -> None:
    ada = await trial.session()
    socket = await trial.by_subprotocol(ada.token)
    before = await socket.event("joined")
    after = await socket.do("token-refresh", {"token": await ada.refresh()})
    expect(_expiry(after) >= _expiry(before), "expires_at went back")
    await socket.alive()


async def refresh_of_another(trial: Trial) -> None:
    ada, ben = await trial.ada(), await trial.ben()
    socket = await trial.joined(ada)
    await socket.refused("token-refresh", "identity_mismatch", {"token": ben.token})
    await socket.alive()


async def refresh_of_another_session(trial: Trial) -> None:
    ada = await trial.ada()
    other = await trial.again(ada)
    socket = await trial.joined(ada)
    await socket.refused("token-refresh", "identity_mismatch", {"token": other.token})
    # The socket belongs to the first session, as before: the end of the other one is not its own.
    await other.http.do("POST", "/api/auth/logout", status=204)
    await socket.alive()


async def refresh_with_nothing(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    reply = await socket.ask("token-refresh", {"token": "not-a-token"})
    same(reply.get("ok"), False, "ok of a token-refresh with a wrong token")
    await socket.alive()


def _expiry(data: Json) -> float:
    found = data.get("expires_at")
    expect(isinstance(found, int | float), "expires_at is no number")
    return float(found or 0)
