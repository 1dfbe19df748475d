"""An entry of the audit trail, and its form in a log line."""

from __future__ import annotations

import functools
import time

import msgspec
from msgspec.structs import astuple

from services.logs import utc

LOGGER = "usher.audit"
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@/-"
_FIELDS = ("actor", "subject", "session", "address", "reason", "target")


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
    at, kind, actor, subject, session, address, reason, target, count = astuple(event)
    seconds = int(at)
    text = f"{_second(seconds)},{int((at - seconds) * 1000):03d} INFO {LOGGER}: {kind}"
    # Each join by a token and each end has all of them, and ids and words only.
    whole = actor and subject and session and address and reason and target and count == 1
    if whole and _is_plain(f"{actor}{subject}{session}{address}{reason}{target}"):
        return (
            f"{text} actor={actor} subject={subject} session={session} address={address} "
            f"reason={reason} target={target}"
        )
    values = zip(_FIELDS, (actor, subject, session, address, reason, target), strict=True)
    pairs = [f" {name}={_shown(value)}" for name, value in values if value]
    return "".join((text, *pairs, f" count={count}" if count > 1 else ""))


def _shown(value: str) -> str:
    return value if _is_plain(value) else ascii(value)


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _is_plain(text: str) -> bool:
    return not text.encode(errors="replace").translate(None, _PLAIN)
