"""An entry of the audit trail, and its form in a log line."""

from __future__ import annotations

import re
import time

import msgspec

from services.logs import utc

LOGGER = "usher.audit"
_PLAIN = re.compile(r"[A-Za-z0-9_.:@/-]+")
_FIELDS = ("actor", "subject", "session", "address", "reason", "target")


class Caller(msgspec.Struct, frozen=True):
    """Who acts. `actor`: a user id, "key:" and an API key's, "command-line", or empty."""

    actor: str = ""
    session: str = ""
    address: str = ""


class Event(msgspec.Struct, frozen=True):
    """One entry. Ids and stable words only: no e-mail address, no secret.

    Attributes:
        at: epoch seconds.
        kind: what happened.
        actor: who did it.
        subject: the user whom it happened to.
        session: the login session.
        address: where the request came from.
        reason: why.
        target: what else it is about.
        count: how many alike came together.
    """

    at: float
    kind: str
    actor: str = ""
    subject: str = ""
    session: str = ""
    address: str = ""
    reason: str = ""
    target: str = ""
    count: int = 1


def as_json(event: Event) -> str:
    """One line, with the members of every other line and those of an entry that has them."""
    line: dict[str, object] = {"time": utc(event.at), "level": "info", "logger": LOGGER}
    line["kind"] = event.kind
    line |= {name: value for name in _FIELDS if (value := getattr(event, name))}
    if event.count > 1:
        line["count"] = event.count
    return msgspec.json.encode(line).decode()


def as_text(event: Event) -> str:
    """The same as `name=value` behind the usual beginning of a line."""
    seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
    parts = [f"{seconds},{int(event.at % 1 * 1000):03d} INFO {LOGGER}: {event.kind}"]
    parts += [f"{name}={_shown(value)}" for name in _FIELDS if (value := getattr(event, name))]
    if event.count > 1:
        parts.append(f"count={event.count}")
    return " ".join(parts)


def _shown(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else ascii(value)
