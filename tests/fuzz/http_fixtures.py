"""What the requests of schemathesis may name: people, channels, keys and tokens that there are.

Each operation has an administrator of its own, whose sessions no other operation ends.
"""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.server import PASSWORD, address

SCOPES = ["publish", "disconnect", "read", "introspect", "channels", "users"]
AUDIENCE = "shop"
NOWHERE = "http://127.0.0.1:9/hook"
"""A web hook that nobody listens at."""


class Caller(NamedTuple):
    """An administrator who is signed in."""

    email: str
    user_id: str
    token: str
    refresh_token: str


class Refused(Exception):
    """The server did not make what was asked for: schemathesis may have ended who asks."""


class Fixtures:
    """Makes them, through the API.

    Args:
        root: the first administrator: e-mail address and password.
    """

    def __init__(self, url: str, root: dict[str, str]) -> None:
        self._url, self._numbers, self._newest_channel = url, 0, ""
        self._root = self._signed_in(root["email"])
        self._document = self._call("GET", "/openapi.json")
        self._callers: dict[str, Caller] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._keys: dict[str, str] = {}
        self._makers: dict[str, Callable[[Caller], str]] = {
            "channel_id": self._channel,
            "user_id": lambda _: self._user(),
            "member_id": self._member,
            "session_id": self._session,
            "key_id": lambda caller: str(self._key(caller)["id"]),
            "model_id": self._model,
            "provider": lambda _: "mock",
            "webhook_id": self._webhook,
        }
        self._members: dict[str, Callable[[str, Caller], Any]] = {
            "email": lambda op, caller: address() if "signup" in op else caller.email,
            "password": lambda *_: PASSWORD,
            "current_password": lambda *_: PASSWORD,
            "new_password": lambda *_: PASSWORD,
            "name": lambda *_: "Ada",
            "role": lambda *_: "user",
            "right": lambda *_: "read",
            "room": lambda op, caller: f"channel:{self._id(op, 'channel_id', caller)}",
            "event": lambda *_: "message",
            "scopes": lambda *_: ["publish"],
            "url": lambda *_: NOWHERE,
            "events": lambda *_: ["user.created"],
            "audience": lambda *_: AUDIENCE,
            "title": lambda *_: "Small",
            "token": lambda _, caller: caller.token,
            "refresh_token": lambda _, caller: self._signed_in(caller.email).refresh_token,
        }

    def caller(self, operation: str) -> Caller:
        """The administrator of an operation."""
        if operation not in self._callers:
            email = address()
            user_id = self._user(email)
            self._call("PATCH", f"/api/admin/users/{user_id}", {"role": "admin"}, self._root.token)
            self._callers[operation] = self._signed_in(email)
        return self._callers[operation]

    def forget(self, operation: str, authorization: str | None = None) -> None:
        """Take others the next time: these may be gone."""
        caller = self._callers.get(operation)
        mine = {f"Bearer {self._keys.get(operation)}", f"Bearer {caller.token if caller else ''}"}
        if authorization is None or authorization in mine:
            self._callers.pop(operation, None)
            self._keys.pop(operation, None)
        for name in self._makers:
            self._ids.pop((operation, name), None)

    def spare_root(self, case: Any) -> None:
        """Schemathesis names what it saw in answers: the one who makes all others has to stay."""
        if (case.path_parameters or {}).get("user_id") == self._root.user_id:
            case.path_parameters["user_id"] = "nobody"

    # ---- requests ----------------------------------------------------------------------------

    def name_existing(self, case: Any) -> None:
        """Let the path name what exists."""
        operation = case.operation.label
        for name in sorted(set(case.path_parameters or ()) & set(self._makers)):
            case.path_parameters[name] = self._id(operation, name, self.caller(operation))

    def make_good(self, case: Any) -> None:
        """Sign a request in, let it name what exists, and send what the operation takes."""
        operation = case.operation.label
        caller = self.caller(operation)
        self.name_existing(case)
        described = self._described(operation)
        credential = self._credential(operation, described, caller)
        # The origin of the own page: some operations are for pages alone.
        case.headers = {"Authorization": f"Bearer {credential}", "Origin": self._url}
        case.query, case.cookies = {}, {}
        for media_type, content in described.get("requestBody", {}).get("content", {}).items():
            body = self._body(operation, content["schema"], caller)
            if body is not None:
                case.media_type, case.body = media_type, body

    def _credential(self, operation: str, described: dict[str, Any], caller: Caller) -> str:
        takes_key = any("api_key" in choice for choice in described.get("security", ()))
        if not takes_key or secrets.randbelow(2):
            return caller.token
        if operation not in self._keys:
            self._keys[operation] = str(self._key(caller)["key"])
        return self._keys[operation]

    def _body(self, operation: str, schema: Any, caller: Caller) -> dict[str, Any] | None:
        """What is needed, and of the rest what has a good value. None: nobody knows one here."""
        name = schema.get("$ref", "").rpartition("/")[2]
        whole = self._document["components"]["schemas"].get(name, schema)
        known = set(whole.get("properties", ())) & set(self._members)
        if set(whole.get("required", ())) - known:
            return None
        return {name: self._members[name](operation, caller) for name in sorted(known)}

    def _described(self, operation: str) -> dict[str, Any]:
        method, path = operation.split()
        found: dict[str, Any] = self._document["paths"][path][method.lower()]
        return found

    # ---- what exists -------------------------------------------------------------------------

    def _id(self, operation: str, name: str, caller: Caller) -> str:
        place = (operation, name)
        if place not in self._ids or operation.startswith("DELETE"):
            is_member = name == "user_id" and "/members/" in operation
            self._ids[place] = self._makers["member_id" if is_member else name](caller)
        return self._ids[place]

    def _user(self, email: str | None = None) -> str:
        body = {"email": email or address(), "password": PASSWORD, "name": "A", "client": "native"}
        return str(self._call("POST", "/api/auth/signup", body)["user"]["id"])

    def _signed_in(self, email: str) -> Caller:
        body = {"email": email, "password": PASSWORD, "client": "native"}
        found = self._call("POST", "/api/auth/login", body)
        tokens = found["access_token"], found["refresh_token"]
        return Caller(email, found["user"]["id"], *tokens)

    def _channel(self, caller: Caller) -> str:
        made = self._call("POST", "/api/channels", {"name": "tea"}, caller.token)
        self._newest_channel = str(made["id"])
        return self._newest_channel

    def _member(self, caller: Caller) -> str:
        """In the channel that was made for the same request, which comes first in its path."""
        user_id = self._user()
        path = f"/api/channels/{self._newest_channel}/members/{user_id}"
        self._call("PUT", path, {"right": "read"}, caller.token)
        return user_id

    def _session(self, caller: Caller) -> str:
        other = self._signed_in(caller.email)
        items = self._call("GET", "/api/sessions", token=other.token)["items"]
        return str(next(item["id"] for item in items if item["current"]))

    def _key(self, caller: Caller) -> Any:
        return self._call(
            "POST", "/api/admin/api-keys", {"name": "n", "scopes": SCOPES}, caller.token
        )

    def _webhook(self, caller: Caller) -> str:
        body = {"url": NOWHERE, "events": ["user.created"]}
        return str(self._call("POST", "/api/admin/webhooks", body, caller.token)["id"])

    def _model(self, caller: Caller) -> str:
        self._numbers += 1
        name = f"m{self._numbers}"
        self._call("PUT", f"/api/models/{name}", {"title": "M"}, caller.token)
        return name

    def _call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        headers = {"Content-Type": "application/json", "Origin": self._url}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(f"{method} {path}: {error.code} {error.read()!r}") from error
        return json.loads(text) if text else None
