"""Loaded by schemathesis: signs requests in, names what exists, and counts the answers.

An answer of 401 is no failure to schemathesis, so a run in which nothing was let in would be green
(/docs: it happened). Each operation is called with a session of its own, and what it was answered
is written down for http_calls.py to judge.
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
ENDS_SESSIONS = ("/api/auth/logout", "/api/sessions", "/api/oauth/logout", "/api/auth/password")


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

    def count(self, operation: str, path: str, status: int) -> None:
        self.answers[operation][str(status)] += 1
        if path.startswith(ENDS_SESSIONS) and status < 300:
            self.tokens.pop(operation, None)
        ANSWERS.write_text(json.dumps(self.answers))


def _signed_in() -> str:
    request = urllib.request.Request(
        f"{URL}/api/auth/login",
        json.dumps({**SIGN_IN, "client": "native"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["access_token"])


def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Two of three are signed in, and half of them mean something that exists."""
    if random.random() < 0.67:
        case.headers["Authorization"] = f"Bearer {counts.token(case.operation.label)}"
    if random.random() < 0.5:
        for name in set(case.path_parameters or ()) & set(KNOWN):
            case.path_parameters[name] = KNOWN[name]


def after_call(context: Any, case: Any, response: Any) -> None:
    """Count."""
    counts.count(case.operation.label, case.operation.path, response.status_code)


counts = Counts()
schemathesis.hook(before_call)
schemathesis.hook(after_call)
