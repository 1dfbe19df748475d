"""Defects that a server could have, and the cases of the kit that each has to break."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Container, Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar

import jwt

from tests.support.middle_server import Defect, Json, Middle, Passing

SIGN_INS = frozenset({"/api/auth/signup", "/api/auth/login"})


class OpenHouse(Defect):
    """Refuses nobody, closes nothing, and agrees to everything instead."""

    open_house = True


class Mute(Defect):
    """Does not tell a socket that it has joined."""

    def to_client(self, frame: Json) -> list[Json]:
        return [] if frame["event"] == "joined" else [frame]


class WrongReason(Defect):
    """Says another reason before each close."""

    def to_client(self, frame: Json) -> list[Json]:
        if frame["event"] == "closing":
            frame["data"]["reason"] = "because"
        return [frame]


class Agrees(Defect):
    """Answers every frame with success."""

    def to_client(self, frame: Json) -> list[Json]:
        if frame["event"] == "reply" and not frame["ok"]:
            return [{"event": "reply", "id": frame["id"], "ok": True, "data": {}}]
        return [frame]


class Refuses(Defect):
    """Refuses every frame."""

    def to_client(self, frame: Json) -> list[Json]:
        if frame["event"] == "reply":
            error = {"code": "forbidden", "message": "No."}
            return [{"event": "reply", "id": frame["id"], "ok": False, "error": error}]
        return [frame]


class RepliesTwice(Defect):
    """Sends each reply twice."""

    def to_client(self, frame: Json) -> list[Json]:
        return [frame, frame] if frame["event"] == "reply" else [frame]


class Deaf(Defect):
    """Delivers nothing that others do."""

    LOST = frozenset({"message", "typing", "presence", "access-changed", "built"})

    def to_client(self, frame: Json) -> list[Json]:
        return [] if frame["event"] in self.LOST else [frame]


class DeliversTooMuch(Defect):
    """Delivers what was said after the socket was revoked, what was published to another room, and
    everything twice."""

    def to_client(self, frame: Json) -> list[Json]:
        if frame["event"] == "closing":
            late = {"event": "message", "data": {"data": "after the logout"}}
            return [late, frame]
        if frame["event"] == "last":
            return [{**frame, "event": "built"}, frame]
        return [frame, frame] if frame["event"] in {"message", "built"} else [frame]


class StaleRooms(Defect):
    """Goes on naming rooms that are closed, and says that every history is complete."""

    def __init__(self) -> None:
        self._seen: list[str] = []

    def to_client(self, frame: Json) -> list[Json]:
        data = frame.get("data")
        if isinstance(data, dict) and isinstance(data.get("rooms"), list):
            self._seen += [room for room in data["rooms"] if room not in self._seen]
            data["rooms"] = self._seen
        if isinstance(data, dict) and "complete" in data:
            data["complete"] = True
        return [frame]


class LosesHistory(Defect):
    """Leaves the last message out of a history."""

    def to_client(self, frame: Json) -> list[Json]:
        data = frame.get("data")
        if isinstance(data, dict) and data.get("messages"):
            data["messages"] = data["messages"][:-1]
        return [frame]


class LooksAtCookies(Defect):
    """Takes a cookie from requests without an Origin."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def handshake(self, headers: MutableMapping[str, str]) -> None:
        if "Cookie" in headers:
            headers.setdefault("Origin", self._origin)


class NeverRefuses(Defect):
    """Answers refused HTTP requests with 200.

    Args:
        paths: beginnings of the URL paths; none: all.
        statuses: of the refusals.
    """

    def __init__(self, *paths: str, statuses: Container[int] = range(400, 500)) -> None:
        self._paths, self._statuses = paths or ("/",), statuses

    def answered(self, passing: Passing, middle: Middle) -> None:
        if passing.status in self._statuses and passing.path.startswith(self._paths):
            passing.becomes(200, {})


class ForgetsRefreshes(Defect):
    """Agrees to a token-refresh, and forgets it."""

    def from_client(self, frame: Json) -> list[Json] | None:
        if frame["event"] != "token-refresh":
            return None
        data = {"expires_at": time.time() + 3600}
        return [{"event": "reply", "id": frame["id"], "ok": True, "data": data}]


class Talkative(Defect):
    """Says more than it should in each refusal."""

    def answered(self, passing: Passing, middle: Middle) -> None:
        if 400 <= passing.status < 500:
            passing.becomes(passing.status, passing.json | {"detail": secrets.token_hex(8)})


class Careless(Defect):
    """Lets credentials be stored, shown to scripts, and lack claims."""

    def answered(self, passing: Passing, middle: Middle) -> None:
        passing.headers = [
            (name, value.replace("; HttpOnly", ""))
            for name, value in passing.headers
            if name.lower() != "cache-control"
        ]
        if passing.path in SIGN_INS and "access_token" in (found := passing.json):
            claims = jwt.decode(found["access_token"], options={"verify_signature": False})
            claims.pop("acr")
            forged = jwt.encode(claims, secrets.token_hex(32), "HS256")
            passing.becomes(200, found | {"access_token": forged, "token_type": "mac"})
        if passing.path == "/api/auth/login" and passing.status == 401:
            passing.becomes(401, passing.json | {"access_token": "too early"})
        if change := self.CHANGES.get(passing.path):
            passing.becomes(passing.status, change(passing.json))

    CHANGES: ClassVar[Mapping[str, Callable[[Json], Json]]] = {
        "/api/introspect": lambda found: found | {"active": True},
        "/api/auth/app-token": lambda _: {"token": jwt.encode({}, secrets.token_hex(32), "HS256")},
        "/api/auth/me": lambda found: found | {"role": "admin"},
        "/openapi.json": lambda _: {},
        "/api/sessions": lambda found: {
            "items": [one | {"current": True} for one in found["items"]]
        },
    }


class Hasty(Defect):
    """Closes all sockets at a logout, and takes each refresh token once only."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def answered(self, passing: Passing, middle: Middle) -> None:
        if passing.path == "/api/auth/logout" or passing.path.endswith("backchannel-logout"):
            for socket in tuple(middle.sockets):
                socket.close(4410, "session_revoked")
        if passing.path == "/api/auth/refresh":
            token = json.loads(passing.sent)["refresh_token"]
            if token in self._used:
                passing.becomes(401, {"status": 401, "title": "No", "code": "unauthenticated"})
            self._used.add(token)


@dataclass(frozen=True)
class Planted:
    """A defect with the cases that it breaks, and one that it leaves alone."""

    make: Callable[[str], Defect]
    breaks: tuple[str, ...]
    leaves: str = "heartbeat"


DEFECTS: Mapping[str, Planted] = {
    "open house": Planted(
        lambda _: OpenHouse(),
        (
            "foreign-origin", "refused-header", "refused-subprotocol", "refused-ticket",
            "refused-cookie", "refused-user-join", "refused-no-credential",
            "refused-event-before-join", "refused-big-before-join", "refused-two-credentials",
            "refused-two-sessions", "refused-forged", "join-timeout", "ticket-once", "ticket-race",
            "ticket-ended-session", "ticket-expires", "replay-token", "replay-token-other-way",
            "replay-token-other-node", "no-frame", "binary", "cut-logout", "cut-password",
            "cut-session-ended", "cut-others-ended", "cut-disabled", "cut-deleted",
            "cut-disconnected", "cut-role", "cut-refresh-replayed", "cut-back-channel",
            "limit-frame", "limit-rate-for-long", "limit-sockets", "limit-unjoined",
            "cut-deleted-by-admin", "cut-longest-unused", "cut-back-channel-all",
            "cut-code-replayed", "app-token-opens-nothing", "limit-slow-consumer",
        ),
    ),
    "mute": Planted(
        lambda _: Mute(),
        (
            "way-header", "way-subprotocol", "way-ticket", "way-cookie", "way-user-join-no-id",
            "ticket-beside-cookie", "header-beside-cookie", "cookie-per-tab", "provider-sign-in",
            "native-code", "native-code-provider",
        ),
        "way-user-join",
    ),
    "wrong reason": Planted(lambda _: WrongReason(), ("cut-logout", "refused-ticket")),
    "agrees": Planted(
        lambda _: Agrees(),
        (
            "unknown-event", "wrong-data", "join-of-another", "refresh-other-user",
            "refresh-other-session", "refresh-wrong-token", "own-room", "private-channel",
            "read-only", "cut-right-removed", "cut-right-lowered", "cut-channel-deleted",
            "history-re-authorised", "limit-rate",
        ),
    ),
    "refuses": Planted(
        lambda _: Refuses(), ("way-user-join", "heartbeat", "refresh", "usage"), "way-header"
    ),
    "replies twice": Planted(lambda _: RepliesTwice(), ("one-reply-each",)),
    "deaf": Planted(
        lambda _: Deaf(),
        ("message", "order", "typing", "presence", "leave", "right-given", "publish"),
    ),
    "delivers too much": Planted(
        lambda _: DeliversTooMuch(),
        ("cut-nothing-after", "order", "publish-once", "publish-all-or-none"),
    ),
    "stale rooms": Planted(
        lambda _: StaleRooms(), ("join-channels", "cut-right-removed", "history-unknown-after")
    ),
    "loses history": Planted(lambda _: LosesHistory(), ("history", "publish-kept")),
    "looks at cookies": Planted(LooksAtCookies, ("cookie-without-origin",)),
    "never refuses": Planted(
        lambda _: NeverRefuses(),
        ("publish-refused", "cross-site", "admin-only", "verify", "back-channel-forged"),
    ),
    "never unauthenticated": Planted(
        lambda _: NeverRefuses(statuses={401, 403}),
        (
            "introspect-closed", "key-scopes", "key-revoked", "provider-state", "verify-cookie",
            "step-up",
        ),
    ),
    "never limits": Planted(
        lambda _: NeverRefuses(statuses={429}),
        ("limit-signins", "limit-refreshes", "limit-tickets"),
    ),
    "codes for everybody": Planted(
        lambda _: NeverRefuses("/api/auth/app-token", "/api/auth/native-code"),
        ("app-token-audience", "native-redirect", "native-code-browser"),
    ),
    "codes for ever": Planted(
        lambda _: NeverRefuses("/api/auth/exchange", "/api/auth/second-factor"),
        ("native-verifier", "second-factor-once", "second-factor-tries"),
    ),
    "talkative": Planted(lambda _: Talkative(), ("refused-alike", "wrong-sign-in")),
    "careless": Planted(
        lambda _: Careless(),
        (
            "native-sign-in", "token-claims", "browser-sign-in", "no-store", "cut-introspection",
            "introspect-ticket", "app-token", "app-token-after-logout", "second-factor", "me",
            "sessions", "documents",
        ),
        "way-cookie",
    ),
    "hasty": Planted(
        lambda _: Hasty(), ("cut-others-live", "refresh-in-grace", "back-channel-others-live")
    ),
}  # fmt: skip
"""By name. Together they break every case but those of ON_A_SERVER_OF_THEIR_OWN."""
ON_A_SERVER_OF_THEIR_OWN: Mapping[str, Planted] = {
    "open house": Planted(lambda _: OpenHouse(), ("expired",)),
    "agrees": Planted(lambda _: Agrees(), ("step-up-room",)),
    "forgets refreshes": Planted(lambda _: ForgetsRefreshes(), ("refresh-outlives",)),
    "never limits": Planted(lambda _: NeverRefuses(statuses={429}), ("limit-wrong-signins",)),
}
"""Those that break cases which wait for a token or a proof to expire, or use up their address; in
this order."""
