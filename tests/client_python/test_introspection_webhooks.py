"""`Introspection.heard`: Usher's webhooks drop users from the cache."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.client_python.conftest import Run
from tests.support.http_servers import Silent, serving
from tests.support.server import PATIENCE, sign_up, usher
from usher_client.backend import Introspection, WebhookRefused, verify_webhook

Delivery = tuple[dict[str, str], bytes]


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue[Delivery]]]:
    """Keeps what is delivered; returns its address and where that is."""
    came: queue.Queue[Delivery] = queue.Queue()

    class Receiver(Silent, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.put((dict(self.headers.items()), body))
            self.send_response(204)
            self.end_headers()

    with serving(Receiver) as port:
        yield f"http://127.0.0.1:{port}/hooks", came


def test_a_logout_empties_the_memory_before_its_time(run: Run[Any]) -> None:
    with usher("sqlite", WEBHOOK_PRIVATE="on") as server, receiver() as (url, came):
        admin = sign_up(server)
        body = {"name": "board", "scopes": ["introspect"]}
        key = admin.post("/api/admin/api-keys", body).body["key"]
        events = ["session.ended", "user.disabled"]
        made = admin.post("/api/admin/webhooks", {"url": url, "events": events})
        assert made.status == 201, made
        secret = made.body["secret"]
        ada, ben = sign_up(server), sign_up(server)

        async def work() -> None:
            async with Introspection(server.url, key, cache_seconds=600.0) as checks:

                async def reported(kind: str) -> None:
                    headers, content = await asyncio.to_thread(came.get, timeout=PATIENCE)
                    webhook = verify_webhook(secret, headers, content)
                    assert webhook.type == kind
                    checks.heard(webhook)
                    try:
                        verify_webhook(secret, headers, content + b" ")
                    except WebhookRefused:
                        return
                    raise AssertionError("a body that was changed is taken")

                for person in (ada, ben):
                    assert await checks.check(str(person.token)) is not None
                await asyncio.to_thread(ada.post, "/api/auth/logout")
                assert await checks.check(str(ada.token)) is not None, "it is remembered"
                await reported("session.ended")
                assert await checks.check(str(ada.token)) is None
                path = f"/api/admin/users/{ben.user['id']}"
                await asyncio.to_thread(admin.call, "PATCH", path, {"disabled": True})
                await reported("user.disabled")
                assert await checks.check(str(ben.token)) is None

        run(work())
