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
    """The caller. `actor`: a user id, "key:" and the id of an API key, "command-line", or empty."""

    actor: str = ""
    session: str = ""
    address: str = ""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One entry. It has ids and fixed words only: no e-mail address, no secret.

    Attributes:
        at: epoch seconds.
        kind: what happened.
        actor: who did it.
        subject: the affected user.
        session: the login session.
        address: where the request came from.
        reason: why.
        target: another object that it is about.
        count: the number of equal entries that were combined.
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
    """One line of JSON, with the members of every log line and the non-empty ones of the entry."""
    line: dict[str, object] = {"time": utc(event.at), "level": "info", "logger": LOGGER}
    line["kind"] = event.kind
    line |= {name: value for name in _FIELDS if (value := getattr(event, name))}
    if event.count > 1:
        line["count"] = event.count
    return msgspec.json.encode(line).decode()


def as_text(event: Event) -> str:
    """One line of text: the usual beginning of a log line, then `name=value` pairs."""
    seconds = int(event.at)
    text = f"{_second(seconds)},{int((event.at - seconds) * 1000):03d} INFO {LOGGER}: {event.kind}"
    values: tuple[str, ...] = (
        event.actor,
        event.subject,
        event.session,
        event.address,
        event.reason,
        event.target,
    )
    # All in one look: as a rule there are ids only, and each join and each end is a line.
    if not _is_plain("".join(values)):
        values = tuple(value if _is_plain(value) else ascii(value) for value in values)
    for label, value in zip(_LABELS, values):  # noqa: B905 - strict costs a third of the loop
        if value:
            text += label + value
    return text if event.count <= 1 else f"{text} count={event.count}"


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _is_plain(text: str) -> bool:
    return not text.encode(errors="replace").translate(None, _PLAIN)
