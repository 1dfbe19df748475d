"""Schemathesis against a real server's own OpenAPI document: nothing is answered with 5xx."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.server import PASSWORD, ROOT, Client, address, sign_up, usher

EXAMPLES = 40
SECONDS = 1800
KEEPS_OUT = {"401"}
OPEN_TO_STRANGERS = re.compile(r"/api/auth/(login|refresh|logout|exchange|native-code)|/oauth/")
"""There a guess is answered 401, signed in or not."""


def fuzz_http(folder: Path, say: Callable[[str], None], examples: int = EXAMPLES) -> int:
    """Run it. Gives the number of operations that failed, or let nobody in."""
    folder.mkdir(parents=True, exist_ok=True)
    with usher("sqlite") as server:
        email = address()
        admin = sign_up(server, email=email)
        known = _known(admin, sign_up(server))
        answers = folder / "answers.json"
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.fuzz.http_hooks",
            "FUZZ_URL": server.url,
            "FUZZ_KNOWN": json.dumps(known),
            "FUZZ_SIGN_IN": json.dumps({"email": email, "password": PASSWORD}),
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
    return _judged(json.loads(answers.read_text()), status, say)


def _known(admin: Client, other: Client) -> dict[str, str]:
    channel = admin.post("/api/channels", {"name": "tea", "private": True}).body["id"]
    return {"channel_id": str(channel), "user_id": str(other.user["id"]), "model_id": "m1"}


def _judged(answers: dict[str, dict[str, int]], status: int, say: Callable[[str], None]) -> int:
    bad = {
        operation: counts
        for operation, counts in answers.items()
        if any(code.startswith("5") for code in counts)
    }
    shut = [
        operation
        for operation, counts in answers.items()
        if not set(counts) - KEEPS_OUT and not OPEN_TO_STRANGERS.search(operation)
    ]
    good = [name for name, counts in answers.items() if any(code < "400" for code in counts)]
    total = sum(sum(counts.values()) for counts in answers.values())
    say(f"HTTP: {len(answers)} operations, {total:,} requests, {len(bad)} with an answer of 5xx")
    say(f"with an answer of 2xx or 3xx: {len(good)}; without: {sorted(set(answers) - set(good))}")
    for operation, counts in bad.items():
        say(f"  5xx: {operation}: {counts}")
    for operation in shut:
        say(f"  nothing but 401: {operation}")
    return len(bad) + len(shut) + (status != 0 and not bad)
