"""Runs the items of clients/contract/behaviours.json with a client of any language.

A client is a program that reads a JSON command a line and writes a JSON message a line; see
clients/contract/README.md. A step that is not known here fails: nothing is passed over.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.driver_process import DriverProcess
from tests.support.scripted import Asked, Log, ScriptedUsher, message, message_id
from tests.support.server import PASSWORD, PATIENCE, ROOT

Json = dict[str, Any]
LIST = ROOT / "clients" / "contract" / "behaviours.json"
ROOM = "channel:tea"
OPTIONS = {"backoff_ms": 20, "timeout_ms": 10_000, "heartbeat_ms": 10_000}
ABOUT_ROOMS = ("send", "history", "presence", "typing", "leave")
TIMER_SECONDS = 0.02
"""By which a pause may be longer than said."""
LATE_SECONDS = 5.0
"""Bounds the time by which a driver on a busy machine reads a pause that has already begun."""


def behaviours(against: str) -> list[Json]:
    """The items against `scripted` or `usher`."""
    items: list[Json] = json.loads(LIST.read_text("utf-8"))["behaviours"]
    return [item for item in items if item["against"] == against]


class Driver(DriverProcess):
    """The program of a client library, with any number of clients in it."""

    def __init__(self, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        self._clients: dict[str, Client] = {}
        super().__init__(command, environment)

    def hear(self, line: str) -> bool:
        """Hand a message to its client."""
        try:
            reported = json.loads(line)
            client = self._clients[reported["client"]]
        except (ValueError, KeyError, TypeError):
            return False
        client.hear(reported["kind"], reported["detail"])
        return True

    def client(self, url: str, options: Json) -> Client:
        client = Client(self, f"c{len(self._clients)}")
        self._clients[client.name] = client
        client.do("new", {"url": url, "options": OPTIONS | options})
        return client


class Client:
    """One client: its commands, and what it reports to its app."""

    def __init__(self, driver: Driver, name: str) -> None:
        self.name = name
        self._driver = driver
        self._calls = itertools.count()
        self._reported: defaultdict[str, deque[Json]] = defaultdict(deque)
        self._results: dict[int, Json] = {}
        self._changed = threading.Condition()

    def hear(self, kind: str, detail: Json) -> None:
        with self._changed:
            if kind == "result":
                self._results[detail["call"]] = detail
            else:
                self._reported[kind].append(detail)
            self._changed.notify_all()

    def _wait(self, found: Callable[[], Any], what: str) -> Any:
        with self._changed:
            value = self._changed.wait_for(found, timeout=PATIENCE)
        assert value, f"no {what}; reported: {dict(self._reported)}; said: {self._driver.noise()}"
        return value

    def begin(self, do: str, members: Json) -> int:
        call = next(self._calls)
        self._driver.write({"client": self.name, "call": call, "do": do, **members})
        return call

    def result(self, call: int) -> Json:
        """What became of a call."""
        self._wait(lambda: call in self._results, "result")
        return self._results[call]

    def do(self, do: str, members: Json | None = None) -> Any:
        """Call and wait: gives the value of what has to go well."""
        result = self.result(self.begin(do, members or {}))
        assert result["ok"], (do, result)
        return result.get("value")

    def state(self, name: str) -> Json:
        """The next state of this name; those before it are passed over."""

        def found() -> Json | None:
            states = self._reported["state"]
            while states:
                state = states.popleft()
                if state["name"] == name:
                    return state
            return None

        state: Json = self._wait(found, f"state {name}")
        return state

    def reported(self, kind: str) -> Json:
        """The next of a kind."""
        self._wait(lambda: self._reported[kind], kind)
        return self._reported[kind].popleft()

    def waiting(self) -> set[str]:
        """The kinds of reports that were not read yet; for states, the names."""
        kinds = {kind for kind, queue in self._reported.items() if queue and kind != "state"}
        return kinds | {state["name"] for state in self._reported["state"]}

    def signal(self, number: signal.Signals) -> None:
        self._driver.send_signal(number)


def fits(found: Any, wanted: Any) -> bool:
    """Whether a value has all that is wanted, perhaps more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and fits(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list) and len(found) == len(wanted) and all(map(fits, found, wanted))
        )
    return bool(found == wanted)


def meant(value: Any) -> Any:
    """A value of the list, with its placeholders filled in."""
    if isinstance(value, list):
        return [meant(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$in" in value:
        return time.time() + value["$in"]
    if "$message" in value:
        return message(value["$message"])
    return {name: meant(item) for name, item in value.items()}


class Run:
    """One item with one client: the steps that need no server. Its name is the step's verb."""

    def __init__(self, client: Client, room: str, email: str) -> None:
        self.client = client
        self.room = room
        self.email = email
        self._calls: dict[str, int] = {}

    def steps(self, steps: list[Json]) -> None:
        for number, step in enumerate(steps):
            verb = next(iter(step))
            action = getattr(self, f"step_{verb}", None)
            assert action is not None, f"step {number}: nobody knows what {verb} is"
            try:
                action(step[verb], step)
            except AssertionError as error:
                raise AssertionError(f"step {number}, {step}: {error}") from error

    def members(self, verb: str, given: Json) -> Json:
        members: Json = meant(given)
        if verb == "sign_in":
            return {"email": self.email, "password": PASSWORD, **members}
        if verb in ABOUT_ROOMS:
            members = {"room": self.room, **members}
        if isinstance(members.get("after"), int):
            members["after"] = message_id(members["after"])
        return members

    def step_do(self, verb: str, step: Json) -> None:
        call = self.client.begin(verb, self.members(verb, step.get("with", {})))
        if "as" in step:
            self._calls[step["as"]] = call
        else:
            self._ended(call, step)

    def step_outcome(self, name: str, step: Json) -> None:
        self._ended(self._calls.pop(name), step)

    def step_settled(self, name: str, step: Json) -> None:
        self.client.result(self._calls.pop(name))

    def _ended(self, call: int, step: Json) -> None:
        result = self.client.result(call)
        if "fails" in step:
            assert not result["ok"], result
            assert fits(result, step["fails"]), result
        else:
            assert result["ok"], result
            if "value" in step:
                assert fits(result["value"], step["value"]), result

    def step_reports(self, wanted: Json, step: Json) -> None:
        wanted = dict(meant(wanted))
        if "state" in wanted:
            least = wanted.pop("pause_at_least", 0)
            most = wanted.pop("pause_at_most", PATIENCE * 1000)
            state = self.client.state(wanted.pop("state"))
            assert fits(state, wanted), state
            if state["name"] == "waiting":
                # What is left of the pause: it may already be over when the driver reads it.
                assert least - LATE_SECONDS <= state["pause"] <= most + TIMER_SECONDS, state
            return
        [(kind, detail)] = wanted.items()
        found = self.client.reported(kind)
        assert fits(found, detail), found

    def step_not_reported(self, kinds: list[str], step: Json) -> None:
        assert not self.client.waiting() & set(kinds), self.client.waiting()

    def step_wait(self, seconds: float, step: Json) -> None:
        time.sleep(seconds)

    def step_machine(self, what: str | Json, step: Json) -> None:
        if isinstance(what, dict):
            self.client.do("clock", {"seconds": what["clock"]})
        else:
            self.client.signal({"sleep": signal.SIGSTOP, "wake": signal.SIGCONT}[what])


class ScriptedRun(Run):
    """Against the scripted server."""

    def __init__(self, driver: Driver, server: ScriptedUsher, item: Json) -> None:
        client = driver.client(server.url, item.get("options", {}))
        super().__init__(client, ROOM, "ada@example.org")
        self.server = server
        self._frame: Json = {}

    def start(self, how: str) -> None:
        """What an item begins with."""
        assert how in ("new", "signed_in", "joined")
        if how == "new":
            return
        self.client.do("sign_in", self.members("sign_in", {}))
        self.server.next_asked("/api/auth/login")
        self.client.do("listen", {"room": ROOM})
        if how == "joined":
            call = self.client.begin("connect", {})
            self.server.next_socket()
            self.step_join({}, {})
            self.client.state("joined")
            assert self.client.result(call)["ok"]

    def members(self, verb: str, given: Json) -> Json:
        members = super().members(verb, given)
        if "path" in members:
            members["path"] = members["path"].replace("$other", self.server.other)
        return members

    # ---- what the server does --------------------------------------------------------------

    def step_join(self, _: Json, step: Json) -> None:
        self.server.do(self.server.newest.join)

    def step_say(self, frame: Json, step: Json) -> None:
        self.server.do(lambda: self.server.newest.say(meant(frame)))

    def step_write(self, text: str, step: Json) -> None:
        self.server.do(lambda: self.server.newest.say_text(text))

    def step_close(self, how: Json, step: Json) -> None:
        self.server.do(lambda: self.server.newest.close(how["code"], how["reason"] or None))

    def step_drop(self, _: bool, step: Json) -> None:
        self.server.do(self.server.newest.drop)

    def step_mute(self, mute: bool, step: Json) -> None:
        self.server.mute = mute

    def step_answer_heartbeats(self, _: bool, step: Json) -> None:
        socket = self.server.newest
        self.server.wait(lambda: socket.unanswered, "a heartbeat")
        self.server.do(socket.answer_heartbeats)

    def step_reply(self, data: Any, step: Json) -> None:
        self.server.do(lambda: self.server.newest.reply(self._frame, meant(data)))

    def step_refuse(self, error: Json, step: Json) -> None:
        full = {"message": error["code"], **error}
        self.server.do(lambda: self.server.newest.refuse(self._frame, full))

    def step_log(self, log: Json, step: Json) -> None:
        given = {name: value for name, value in log.items() if name != "room"}
        self.server.logs[log["room"]] = Log(**{"messages": [], **given})

    def step_answer(self, answer: Json, step: Json) -> None:
        self.server.answers[answer["path"]].extend([answer] * answer.get("times", 1))

    def step_expire(self, _: bool, step: Json) -> None:
        self.server.tokens.expire()

    def step_refuse_upgrade(self, how: Json, step: Json) -> None:
        self.server.refusals.extend([how["status"]] * how["times"])

    # ---- what the server sees --------------------------------------------------------------

    def step_socket(self, wanted: Json, step: Json) -> None:
        token = self.server.next_socket().token
        assert token == wanted.get("token", token), token

    def step_asked(self, wanted: Json, step: Json) -> None:
        asked: Asked = self.server.next_asked(wanted["path"])
        assert asked.token == wanted.get("token", asked.token), asked
        assert fits(asked.body, wanted.get("body", asked.body)), asked

    def step_frame(self, wanted: Json, step: Json) -> None:
        self._frame = self.server.next_frame(wanted["event"])
        if "data" in wanted:
            assert fits(self._frame.get("data"), wanted["data"]), self._frame

    def step_history(self, wanted: Json, step: Json) -> None:
        asked = self.server.next_question(wanted["room"])
        if "after" in wanted:
            assert asked.get("after") == message_id(wanted["after"]), asked

    def step_heartbeats(self, more: int, step: Json) -> None:
        socket = self.server.newest
        count = socket.heartbeats + more
        self.server.wait(lambda: socket.heartbeats >= count, "heartbeats")

    def step_quiet(self, seconds: float, step: Json) -> None:
        time.sleep(seconds)
        assert self.server.unseen() == []

    def step_no_frame(self, wanted: Json, step: Json) -> None:
        time.sleep(wanted["for"])
        events = [frame["event"] for frame in self.server.newest.frames]
        assert wanted["event"] not in events

    def step_asked_in_all(self, wanted: Json, step: Json) -> None:
        assert len(self.server.of_path(wanted["path"])) == wanted["times"]

    def step_never_asked(self, wanted: Json, step: Json) -> None:
        assert wanted["of"] == "other"
        host = self.server.other.removeprefix("http://")
        assert [a for a in self.server.asked if a.host == host and a.token == wanted["token"]] == []
