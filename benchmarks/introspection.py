"""How long introspection takes within the server: `python -m benchmarks.introspection`.

A real Usher with its embedded Redis and SQLite. Requests come one after another on one kept
connection, so that nothing waits in line, and the time of a bare `GET /healthz` on the same
connection is taken beside it: what HTTP and the machine cost without introspection. The CPU time
of the server and of its Redis is that of as many requests again, of one kind after the other.
"""

from __future__ import annotations

import http.client
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

from benchmarks.machine import cpu_seconds, find_store
from tests.support.server import sign_up, usher

ROUNDS, WARM_UP = 3000, 200
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def measure() -> tuple[dict[str, list[float]], dict[str, tuple[float, float]]]:
    """By what was asked: milliseconds of each request; and those of CPU time, on the mean, of the
    server and of its Redis."""
    with usher("sqlite") as server:
        admin = sign_up(server)
        key = admin.post("/api/admin/api-keys", {"name": "bench", "scopes": ["introspect"]})
        headers = {**FORM, "Authorization": f"Bearer {key.body['key']}"}
        body = urlencode({"token": sign_up(server).token or ""})
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        pid = server.process.pid
        store = find_store(pid)

        def timed(method: str, path: str, sent: str | None, head: dict[str, str]) -> float:
            begun = time.perf_counter()
            connection.request(method, path, sent, head)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            return (time.perf_counter() - begun) * 1000

        def cpu() -> tuple[float, float]:
            return cpu_seconds(pid), 0.0 if store is None else cpu_seconds(store)

        questions: dict[str, Callable[[], float]] = {
            "introspection": partial(timed, "POST", "/api/introspect", body, headers),
            "GET /healthz": partial(timed, "GET", "/healthz", None, {}),
        }
        found: dict[str, list[float]] = {name: [] for name in questions}
        for _ in range(ROUNDS + WARM_UP):
            for name, question in questions.items():
                found[name].append(question())
        used: dict[str, tuple[float, float]] = {}
        for name, question in questions.items():
            server_before, store_before = cpu()
            for _ in range(ROUNDS):
                question()
            server_after, store_after = cpu()
            used[name] = (
                1000 * (server_after - server_before) / ROUNDS,
                1000 * (store_after - store_before) / ROUNDS,
            )
        return {name: times[WARM_UP:] for name, times in found.items()}, used


def main() -> None:
    times_of, used = measure()
    for name, times in times_of.items():
        cuts = statistics.quantiles(times, n=100)
        server, store = used[name]
        sys.stdout.write(
            f"{name:14}  median {cuts[49]:.2f} ms  p95 {cuts[94]:.2f} ms  p99 {cuts[98]:.2f} ms  "
            f"({len(times)} requests)  CPU {server:.2f} ms, Redis {store:.2f} ms\n"
        )
    sys.stdout.write(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")


if __name__ == "__main__":
    main()
