"""Services that err on demand: the faults any HTTP server can have, and when one has which."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

from tests.support.http_answers import Flow, Reply, as_json, as_page, to
from tests.support.http_service import Seen, Service

TRANSPORT_FAULTS: Mapping[str, str] = {
    "http_500": "answers 500 without having done anything",
    "http_503": "answers 503 without having done anything, Retry-After 1",
    "http_429": "answers 429 without having done anything, Retry-After 1",
    "not_json": "a page of HTML with status 200",
    "empty": "no bytes with status 200",
    "json_array": "a JSON array where an object belongs",
    "deep": "JSON nested a hundred thousand deep, on which json.loads raises RecursionError",
    "slow": "does its work, then answers after `delay` seconds",
    "held": "does its work, then answers once the test calls `release()`",
    "drip": "does its work, then sends the body at one byte per `drip_interval`",
    "drip_headers": "sends one endless header at that pace",
    "endless": "a body that does not end, in chunks",
    "bomb": "64 MiB of JSON in 64 KiB of gzip",
    "closes": "hangs up without having done anything",
    "lost": "does its work, then hangs up: the answer is lost on the way",
    "redirect_here": "redirects to another path of its own, which answers well",
    "redirect_loop": "redirects to itself for ever",
    "redirect_elsewhere": "redirects to `elsewhere`, the method and the form kept (307)",
}

_FLOWS: Mapping[str, Flow] = {
    "slow": "slow",
    "held": "held",
    "drip": "drip",
    "drip_headers": "drip_headers",
    "endless": "endless",
    "bomb": "bomb",
    "lost": "closes",
}
NOTHING: frozenset[str] = frozenset()


class Faults:
    """What is wrong now, at which place, and for how many answers more.

    Args:
        known: place to the faults that it can have.
    """

    def __init__(self, known: Mapping[str, Collection[str]]) -> None:
        self.known = known
        self._lock = threading.Lock()
        self._now: dict[str, tuple[frozenset[str], int | None]] = {}

    def set(self, place: str, names: str | Iterable[str], times: int | None = None) -> None:
        """Puts these in place of what was wrong there. No names: nothing is.

        Raises: ValueError for a name that the place does not have.
        """
        chosen = frozenset((names,) if isinstance(names, str) else names)
        if unknown := chosen - set(self.known[place]):
            raise ValueError(f"{place} has no {sorted(unknown)}")
        with self._lock:
            self._now[place] = (chosen, times)

    def take(self, place: str) -> frozenset[str]:
        """What is wrong with this one answer."""
        with self._lock:
            names, times = self._now.get(place, (NOTHING, None))
            if times is not None:
                self._now[place] = (names, times - 1) if times > 1 else (NOTHING, None)
            return names

    def clear(self) -> None:
        with self._lock:
            self._now.clear()


class Elsewhere(Service):
    """Another host, where nothing of ours should ever arrive."""

    def answer(self, seen: Seen) -> Reply:
        return as_json({})


class FaultyService(Service):
    """A service whose places can have faults.

    Args:
        known: place to the faults that it can have. A place without any has none.

    Attributes:
        elsewhere: another host, for redirects and endpoints that lead away.
    """

    def __init__(self, known: Mapping[str, Collection[str]]) -> None:
        super().__init__()
        self.elsewhere = Elsewhere()
        self.faults = Faults(known)

    def misbehave(self, *, times: int | None = None, **faults: str | Iterable[str]) -> None:
        """From now on, or for the next `times` answers, these places have these faults.

        Args:
            faults: place to one name or several; () ends it there.

        Raises: KeyError, ValueError for names that do not exist.
        """
        for place, names in faults.items():
            self.let_go.clear()
            self.faults.set(place, names, times)

    def behave(self) -> None:
        """From now on nothing is wrong. Held answers go out."""
        self.faults.clear()
        self.release()

    def answer(self, seen: Seen) -> Reply:
        moved = seen.path.startswith("/moved/")
        place = self.place(seen, seen.path.removeprefix("/moved") if moved else seen.path)
        if place is None:
            return as_page("Not found", 404)
        faults = NOTHING if moved else self.faults.take(place)
        if reply := _instead(faults, seen, self.elsewhere.origin):
            return reply
        return _on_the_way(faults, self.serve(place, seen, faults))

    def place(self, seen: Seen, path: str) -> str | None:
        """Which place the request is for.

        Args:
            path: as `redirect_here` would have it, the one before the move.
        """
        raise NotImplementedError

    def serve(self, place: str, seen: Seen, faults: Collection[str]) -> Reply:
        """The answer of this place, with the faults in it that are its own."""
        raise NotImplementedError


F = TypeVar("F", bound=FaultyService)


@contextmanager
def running(service: F, behaviour: Mapping[str, Any]) -> Iterator[F]:
    """The service and its `elsewhere`, started, and ended behind the test.

    Args:
        behaviour: faults by place, as `misbehave` takes them, and attributes.

    Raises: AttributeError, ValueError for names that do not exist.
    """
    with service, service.elsewhere:
        for name, value in behaviour.items():
            if name in service.faults.known:
                service.misbehave(**{name: value})
            elif hasattr(service, name):
                setattr(service, name, value)
            else:
                raise AttributeError(name)
        yield service


def _instead(faults: Collection[str], seen: Seen, elsewhere: str) -> Reply | None:
    """The answer of a server that did nothing, where one of the faults says so."""
    moved = 302 if seen.method == "GET" else 307
    target = f"{seen.path}?{urlencode(seen.query)}" if seen.query else seen.path
    replies = {
        "http_500": Reply(500, b"<h1>Internal Server Error</h1>", {"Content-Type": "text/html"}),
        "http_503": Reply(503, b"", {"Retry-After": "1"}),
        "http_429": Reply(429, b"", {"Retry-After": "1"}),
        "not_json": Reply(200, b"<!doctype html><h1>Hello</h1>", {"Content-Type": "text/html"}),
        "empty": Reply(200, b"", {"Content-Type": "application/json"}),
        "json_array": as_json(["a", "list"]),
        "deep": Reply(200, b"[" * 100_000, {"Content-Type": "application/json"}),
        "closes": Reply(flow="closes"),
        "redirect_here": to(f"/moved{target}", moved),
        "redirect_loop": to(target, moved),
        "redirect_elsewhere": to(f"{elsewhere}{target}", 307),
    }
    return next((replies[name] for name in sorted(faults) if name in replies), None)


def _on_the_way(faults: Collection[str], reply: Reply) -> Reply:
    """The answer of a server that did its work, as the faults let it arrive."""
    return next((reply.flowing(_FLOWS[name]) for name in sorted(faults) if name in _FLOWS), reply)
