"""clients/python as clients/contract drives it: see clients/contract/README.md."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from usher_client import (
    Event,
    Gap,
    Message,
    Options,
    Presence,
    State,
    Typing,
    User,
    Usher,
    UsherError,
)

Json = dict[str, Any]


def write(client: str, kind: str, detail: Json) -> None:
    """One message a line."""
    sys.stdout.write(json.dumps({"client": client, "kind": kind, "detail": detail}) + "\n")
    sys.stdout.flush()


def person(user: User | None) -> Json:
    """A user as the wire has them."""
    return {} if user is None else vars(user)


def reported(event: Event) -> tuple[str, Json]:
    """The kind and detail of what a room tells."""
    match event:
        case Message(published=True):
            detail = {"event": event.event, "room": event.room, "id": event.id, "data": event.data}
            return "event", detail
        case Message():
            return "message", said(event)
        case Typing():
            return "typing", {"room": event.room, "from": person(event.sender)}
        case Presence():
            joined, left = (list(map(person, who)) for who in (event.joined, event.left))
            return "presence", {"room": event.room, "joined": joined, "left": left}
        case Gap():
            return "gap", {"room": event.room}


def said(message: Message) -> Json:
    """A message as the wire has it."""
    return {
        "id": message.id,
        "room": message.room,
        "from": person(message.sender),
        "data": message.data,
        "sent_at": message.sent_at,
    }


class Clock:
    """The wall clock of this process, which jumps."""

    def __init__(self) -> None:
        self._time, self._jumped = time.time, 0.0
        time.time = self.now

    def now(self) -> float:
        return self._time() + self._jumped

    def jump(self, seconds: float) -> None:
        self._jumped += seconds


class Driver:
    """Any number of clients, driven by commands."""

    def __init__(self) -> None:
        self._clients: dict[str, Usher] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clock = Clock()

    def spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def obey(self, command: Json) -> None:
        """Execute a command, and report its result."""
        result: Json = {"call": command["call"]}
        action: Callable[[Json], Awaitable[Any]] = getattr(self, f"do_{command['do']}")
        try:
            result |= {"ok": True, "value": await action(command)}
        except UsherError as error:
            result |= {
                "ok": False,
                "code": error.code,
                "status": error.status,
                "retry_after": error.retry_after,
                "message": str(error),
            }
        write(command["client"], "result", result)

    async def end(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def of(self, command: Json) -> Usher:
        return self._clients[command["client"]]

    async def do_new(self, command: Json) -> None:
        name, given = command["client"], command["options"]
        options = {option.removesuffix("_ms"): value / 1000 for option, value in given.items()}

        def on_state(state: State) -> None:
            write(name, "state", vars(state))

        self._clients[name] = Usher(command["url"], on_state=on_state, options=Options(**options))

    async def do_sign_in(self, command: Json) -> Json:
        return person(await self.of(command).sign_in(command["email"], command["password"]))

    async def do_sign_out(self, command: Json) -> None:
        await self.of(command).sign_out()

    async def do_connect(self, command: Json) -> Json:
        session = await self.of(command).connect()
        return {"user": person(session.user), "rooms": session.rooms}

    async def do_close(self, command: Json) -> None:
        await self.of(command).disconnect()

    async def do_listen(self, command: Json) -> None:
        self.spawn(self._listen(command))

    async def _listen(self, command: Json) -> None:
        room = self.of(command).room(command["room"])
        try:
            async for event in room.events():
                write(command["client"], *reported(event))
        except UsherError:
            pass  # the state says it too

    async def do_send(self, command: Json) -> Json:
        return {"id": await self.of(command).room(command["room"]).send(command["data"])}

    async def do_history(self, command: Json) -> Json:
        page = await self.of(command).room(command["room"]).history(command.get("after"))
        return {"messages": list(map(said, page.messages)), "complete": page.complete}

    async def do_presence(self, command: Json) -> Json:
        people = await self.of(command).room(command["room"]).presence()
        return {"users": list(map(person, people.users))}

    async def do_typing(self, command: Json) -> None:
        await self.of(command).room(command["room"]).typing()

    async def do_leave(self, command: Json) -> None:
        await self.of(command).room(command["room"]).leave()

    async def do_call(self, command: Json) -> Json:
        answer = await self.of(command).fetch(
            command["method"], command["path"], command.get("body")
        )
        return {"status": answer.status, "body": answer.parsed()}

    async def do_clock(self, command: Json) -> None:
        self._clock.jump(command["seconds"])


async def main() -> None:
    """Obey until the input ends."""
    driver = Driver()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        driver.spawn(driver.obey(json.loads(line)))
    await driver.end()


if __name__ == "__main__":
    asyncio.run(main())
