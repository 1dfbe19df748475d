"""Loaded by schemathesis: signs requests in, names what exists, and counts the answers.

An answer of 401 is no failure to it, so a run in which nobody was let in would be green. What each
operation was answered, by its own method, is written down for http_calls.py to judge.
"""

from __future__ import annotations

import json
import os
import random
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import schemathesis

URL = os.environ["FUZZ_URL"]
KNOWN: dict[str, str] = json.loads(os.environ["FUZZ_KNOWN"])
"""Path parameters that exist."""
SIGN_IN: dict[str, str] = json.loads(os.environ["FUZZ_SIGN_IN"])
ANSWERS = Path(os.environ["FUZZ_ANSWERS"])


class Counts:
    """The tokens by operation, and the answers."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.answers: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def token(self, operation: str) -> str:
        """Of a session that no other operation can end."""
        if operation not in self.tokens:
            self.tokens[operation] = _signed_in()
        return self.tokens[operation]

    def count(self, operation: str, status: int, token: str) -> None:
        self.answers[operation][str(status)] += 1
        # Another operation may have ended its session, or it has itself.
        if status == 401 and token == self.tokens.get(operation):
            del self.tokens[operation]
        ANSWERS.write_text(json.dumps(self.answers))


def _signed_in() -> str:
    request = urllib.request.Request(
        f"{URL}/api/auth/login",
        json.dumps({**SIGN_IN, "client": "native"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["access_token"])


class SignedIn:
    """Two of three requests are signed in."""

    def get(self, case: Any, context: Any) -> str | None:
        """A token, or None for a stranger."""
        return counts.token(case.operation.label) if random.random() < 0.67 else None

    def set(self, case: Any, token: str | None, context: Any) -> None:
        if token is not None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}


def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Half of the requests mean something that exists."""
    if random.random() < 0.5:
        for name in set(case.path_parameters or ()) & set(KNOWN):
            case.path_parameters[name] = KNOWN[name]


def after_call(context: Any, case: Any, response: Any) -> None:
    """Count."""
    sent = response.request
    if sent.method.lower() == case.operation.method:  # it tries others, and OPTIONS is answered
        token = str(sent.headers.get("Authorization", "")).removeprefix("Bearer ")
        counts.count(case.operation.label, response.status_code, token)


counts = Counts()
# Asked anew for each request: an interval would keep a token that was ended meanwhile.
schemathesis.auth(refresh_interval=None)(SignedIn)
schemathesis.hook(before_call)
schemathesis.hook(after_call)
