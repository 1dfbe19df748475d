"""Loaded by schemathesis: signs requests in, names what exists, and counts the answers.

An answer of 401 is no failure to it, so a run in which nobody was let in would be green. What each
operation was answered, by its own method, is written down for http_calls.py to judge.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import schemathesis

from tests.fuzz.http_fixtures import Fixtures, Refused

ANSWERS = Path(os.environ["FUZZ_ANSWERS"])
SIGNED_IN, GOOD = 0.67, 0.3
"""Parts of the requests: those that are signed in, and those that are meant to be answered well."""


class Counts:
    """The answers by operation."""

    def __init__(self) -> None:
        self.answers: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def count(self, operation: str, status: int) -> None:
        self.answers[operation][str(status)] += 1
        ANSWERS.write_text(json.dumps(self.answers))


class SignedIn:
    """Most requests are signed in."""

    def get(self, case: Any, context: Any) -> str | None:
        """A token, or None for an unauthenticated client."""
        if chance.random() >= SIGNED_IN:
            return None
        try:
            return fixtures.caller(case.operation.label).token
        except Refused:
            return None

    def set(self, case: Any, token: str | None, context: Any) -> None:
        if token is not None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}


def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Some requests are as good as they can be made; of the others half name what exists."""
    operation = case.operation.label
    try:
        if chance.random() < GOOD and case.method == operation.split()[0]:
            fixtures.make_good(case)
        elif chance.random() < 0.5:
            fixtures.name_existing(case)
    except Refused:
        fixtures.forget(operation)
    fixtures.spare_root(case)


def after_call(context: Any, case: Any, response: Any) -> None:
    """Count."""
    sent = response.request
    operation = case.operation.label
    if sent.method.lower() == case.operation.method:  # it tries others, and OPTIONS is answered
        counts.count(operation, response.status_code)
        # Another request of this operation may have ended the session, or taken away the thing.
        if response.status_code in (401, 403, 404, 409):
            fixtures.forget(operation, str(sent.headers.get("Authorization", "")))


# Hypothesis seeds the module's own generator anew for each case: it would say the same every time.
chance = random.SystemRandom()
counts, fixtures = Counts(), Fixtures(os.environ["FUZZ_URL"], json.loads(os.environ["FUZZ_ROOT"]))
# Asked anew for each request: an interval would keep a token that was ended meanwhile.
schemathesis.auth(refresh_interval=None)(SignedIn)
schemathesis.hook(before_call)
schemathesis.hook(after_call)
