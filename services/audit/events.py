"""An entry of the audit trail, and its form in a log line."""

from __future__ import annotations

import functools
import time

import msgspec

from services.logs import utc

LOGGER = "usher.audit"
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@/-"
_FIELDS = ("actor", "subject", "session", "address", "reason", "target")
_LABELS = tuple(f" {name}=" for name in _FIELDS)


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who acts. `actor`: a user id, "key:" and an API key's, "command-line", or empty."""

    actor: str = ""
    session: str = ""
    address: str = ""


class Event(msgspec.Struct, frozen=True, gc=False):
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
    seconds = int(event.at)
    text = f"{_second(seconds)},{int((event.at - seconds) * 1000):03d} INFO {LOGGER}: {event.kind}"
    values = (
        event.actor,
        event.subject,
        event.session,
        event.address,
        event.reason,
        event.target,
    )
    # All in one look: as a rule there are ids only, and each join and each end is a line.
    plain = _is_plain("".join(values))
    for label, value in zip(_LABELS, values, strict=True):
        if value:
            text += label + (value if plain or _is_plain(value) else ascii(value))
    return text if event.count <= 1 else f"{text} count={event.count}"


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _is_plain(text: str) -> bool:
    return not text.encode(errors="replace").translate(None, _PLAIN)
