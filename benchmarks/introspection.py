"""How long introspection takes within the server: `python -m benchmarks.introspection`.

A real Usher with its embedded Redis and SQLite. Requests come one after another on one kept
connection, so that nothing waits in line, and the time of a bare `GET /healthz` on the same
connection is taken beside it: what HTTP and the machine cost without introspection.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import time
from urllib.parse import urlencode

from tests.support.server import sign_up, usher

ROUNDS, WARM_UP = 3000, 200
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def measure() -> dict[str, list[float]]:
    """Milliseconds of each request, by what was asked."""
    with usher("sqlite") as server:
        admin = sign_up(server)
        key = admin.post("/api/admin/api-keys", {"name": "bench", "scopes": ["introspect"]})
        headers = {**FORM, "Authorization": f"Bearer {key.body['key']}"}
        body = urlencode({"token": sign_up(server).token or ""})
        connection = http.client.HTTPConnection("127.0.0.1", server.port)

        def timed(method: str, path: str, sent: str | None, head: dict[str, str]) -> float:
            begun = time.perf_counter()
            connection.request(method, path, sent, head)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            return (time.perf_counter() - begun) * 1000

        found: dict[str, list[float]] = {"introspection": [], "GET /healthz": []}
        for _ in range(ROUNDS + WARM_UP):
            found["introspection"].append(timed("POST", "/api/introspect", body, headers))
            found["GET /healthz"].append(timed("GET", "/healthz", None, {}))
        return {name: times[WARM_UP:] for name, times in found.items()}


def main() -> None:
    for name, times in measure().items():
        cuts = statistics.quantiles(times, n=100)
        sys.stdout.write(
            f"{name:14}  median {cuts[49]:.2f} ms  p95 {cuts[94]:.2f} ms  p99 {cuts[98]:.2f} ms  "
            f"({len(times)} requests)\n"
        )


if __name__ == "__main__":
    main()
