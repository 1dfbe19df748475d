"""The items of clients/contract that a real Usher is needed for."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.contract import Driver, Run
from tests.support.nodes import channel, put_out
from tests.support.server import (
    PATIENCE,
    Answer,
    Client,
    Usher,
    address,
    bearer,
    log_in,
    new_token,
    sign_up,
    usher,
)

Json = dict[str, Any]


class Installations:
    """A server for each set of settings that an item asks for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, Usher] = {}

    def suited(self, settings: Json) -> Usher:
        """The one with these settings."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self._running:
            self._running[key] = self._stack.enter_context(usher("sqlite", **settings))
        return self._running[key]


@contextmanager
def installations() -> Iterator[Installations]:
    with ExitStack() as stack:
        yield Installations(stack)


class Renewing(Client):
    """A client that renews an expired access token: some items have tokens of 2 seconds, which a
    busy machine spends on one request."""

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        while True:
            answer = super().call(method, path, body, headers)
            if answer.status != 401 or answer.body["code"] != "token_expired":
                return answer
            new_token(self)


class RealRun(Run):
    """Against a real Usher, with somebody else in the channel."""

    def __init__(self, driver: Driver, server: Usher, item: Json) -> None:
        self.server = server
        self.other = Renewing(**vars(sign_up(self.server)))
        self.own = sign_up(self.server, email=(email := address()))
        room = channel(self.other, self.own)
        super().__init__(driver.client(self.server.url, item.get("options", {})), room, email)

    def start(self) -> None:
        """Signed in, connected, and listening to the channel."""
        self.client.do("sign_in", self.members("sign_in", {}))
        self.client.do("listen", {"room": self.room})
        self.client.do("connect")
        self.client.state("joined")

    def step_other(self, what: Json, step: Json) -> None:
        """Somebody else says something in the channel."""
        frame = {"event": "message", "id": 1, "data": {"room": self.room, **what["send"]}}
        while not self._sent(json.dumps(frame)):
            pass

    def _sent(self, frame: str) -> bool:
        """Whether it was accepted before the token had expired."""
        new_token(self.other)
        with connect(
            self.server.ws, subprotocols=bearer(self.other.token), compression=None, proxy=None
        ) as socket:
            try:
                socket.send(frame)
                while (reply := json.loads(socket.recv(timeout=PATIENCE)))["event"] != "reply":
                    pass
            except ConnectionClosed as closed:
                if closed.rcvd is None or closed.rcvd.code != 4419:
                    raise
                return False
            assert reply["ok"], reply
            return True

    def step_usher(self, what: str, step: Json) -> None:
        actions: dict[str, Callable[[], None]] = {
            "end_session": self._end_session,
            "session_is_gone": self._session_is_gone,
            "restart": self.server.restart,
            "kill": lambda: self.server.restart(signal.SIGKILL),
            "put_out": lambda: put_out(self.other, self.room, self.own),
        }
        actions[what]()

    def _elsewhere(self) -> Client:
        return Renewing(**vars(log_in(self.server, self.email)))

    def _end_session(self) -> None:
        assert self._elsewhere().call("DELETE", "/api/sessions").status == 204

    def _session_is_gone(self) -> None:
        items = self._elsewhere().get("/api/sessions").body["items"]
        # That of the sign-up, and the one that asks.
        assert len(items) == 2, items
