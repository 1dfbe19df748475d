"""Schemathesis against a real server's own OpenAPI document: nothing is answered with 5xx."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.http_fixtures import AUDIENCE
from tests.support.provider import provider
from tests.support.server import PASSWORD, ROOT, address, sign_up, usher
from tests.support.sign_in import settings_for

EXAMPLES = 40
SECONDS = 1800
KEEPS_OUT = {"401"}
OPEN_TO_UNAUTHENTICATED = re.compile(
    r"/api/auth/(login|refresh|logout|exchange|native-code)|/oauth/"
)
"""There a guess is answered 401, signed in or not."""
EXCUSED = re.compile(
    r"/oauth/[^/]+/(callback|backchannel-logout)|/api/oauth/|/ws$|native-code|exchange|passkey"
)
"""What takes a provider, a browser's cookies, a device or a WebSocket to be answered well."""
LEAST_GOOD = 0.85
"""Of the others so many have to be answered with 2xx or 3xx. An operation that is new and missing
wants its members in http_fixtures.py."""


def fuzz_http(folder: Path, say: Callable[[str], None], examples: int = EXAMPLES) -> int:
    """Run it. Returns the number of operations that failed, or let nobody in, and one more where
    too few were answered well."""
    folder.mkdir(parents=True, exist_ok=True)
    more = {"APP_AUDIENCES": AUDIENCE, "WEBHOOK_PRIVATE": "on"}
    with provider() as op, usher("sqlite", **settings_for(op), **more) as server:
        email = address()
        sign_up(server, email=email)  # the first account is an administrator
        answers = folder / "answers.json"
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.fuzz.http_hooks",
            "FUZZ_URL": server.url,
            "FUZZ_ROOT": json.dumps({"email": email, "password": PASSWORD}),
            "FUZZ_ANSWERS": str(answers),
        }
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"{server.url}/openapi.json",
            *("--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(examples), "--request-timeout", "20", "--no-color"),
            *("--continue-on-failure", "--generation-database", "none", "--workers", "1"),
        ]
        with (folder / "log").open("w") as log:
            status = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                check=False,
                timeout=SECONDS,
            ).returncode
        (folder / "server.log").write_text(server.log)
    return judged(json.loads(answers.read_text()), status, say)


def judged(answers: dict[str, dict[str, int]], status: int, say: Callable[[str], None]) -> int:
    bad = {
        operation: counts
        for operation, counts in answers.items()
        if any(code.startswith("5") for code in counts)
    }
    shut = [
        operation
        for operation, counts in answers.items()
        if not set(counts) - KEEPS_OUT and not OPEN_TO_UNAUTHENTICATED.search(operation)
    ]
    good = [name for name, counts in answers.items() if any(code < "400" for code in counts)]
    wanted = [name for name in answers if not EXCUSED.search(name)]
    missing = sorted(set(wanted) - set(good))
    too_few = len(wanted) - len(missing) < LEAST_GOOD * len(wanted)
    total = sum(sum(counts.values()) for counts in answers.values())
    say(f"HTTP: {len(answers)} operations, {total:,} requests, {len(bad)} with an answer of 5xx")
    say(f"with an answer of 2xx or 3xx: {len(good)}; without: {sorted(set(answers) - set(good))}")
    for operation, counts in bad.items():
        say(f"  5xx: {operation}: {counts}")
    for operation in shut:
        say(f"  nothing but 401: {operation}")
    if too_few:
        say(f"  too few were answered well: of {len(wanted)} not {missing}")
    return len(bad) + len(shut) + too_few + (status != 0 and not bad)
