"""Unauthenticated clients exhaust neither the database nor the hashing of users and the node."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from typing import Any

import pytest

from tests.support.server import PASSWORD, Client, Usher, address, usher

pytestmark = pytest.mark.slow

ATTACKER, OWNER = "2001:db8:bad::1", "203.0.113.7"


async def post(server: Usher, path: str, body: dict[str, Any], ip: str) -> int:
    """One request on a connection of its own; returns the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"X-Forwarded-For: {ip}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + data)
        status = int((await reader.readline()).split()[1])
        await reader.read()
        return status
    finally:
        writer.close()


def behind_a_proxy(database_kind: str, **settings: object) -> Any:
    limits = {"LIMIT_WRONG_SIGNINS": 100, **settings}
    return usher(database_kind, TRUSTED_PROXIES="127.0.0.1", **limits)


def member(server: Usher) -> dict[str, Any]:
    """What somebody signs in with, on a device that is known."""
    body = {"email": address(), "password": PASSWORD, "name": "Ada", "client": "native"}
    answer = Client(server).post("/api/auth/signup", body, **{"X-Forwarded-For": OWNER})
    assert answer.status == 201
    return body | {"device": answer.body["device"]}


async def good_while(server: Usher, work: list[asyncio.Task[int]], known: dict[str, Any]) -> int:
    """Sign in and look at readiness until the others have their answers; returns how often."""
    count = 0
    while not all(task.done() for task in work) or count < 5:
        assert await post(server, "/api/auth/login", known, OWNER) == 200
        answer = await asyncio.to_thread(Client(server).get, "/readyz")
        assert (answer.status, answer.body["database"]) == (200, "ok")
        count += 1
    return count


def test_1300_concurrent_invalid_refresh_tokens_affect_no_other_client(database_kind: str) -> None:
    async def work(server: Usher) -> None:
        known = member(server)

        def junk() -> dict[str, str]:
            return {"refresh_token": secrets.token_urlsafe(32)}

        flood = [
            asyncio.create_task(post(server, "/api/auth/refresh", junk(), ATTACKER))
            for _ in range(1300)
        ]
        await good_while(server, flood, known)
        assert Counter(await asyncio.gather(*flood)) == {401: 100, 429: 1200}
        assert "not answer" not in server.log

    with behind_a_proxy(database_kind) as server:
        asyncio.run(work(server))


def test_500_concurrent_wrong_sign_ins_affect_no_other_client(database_kind: str) -> None:
    async def work(server: Usher) -> None:
        known = member(server)

        def wrong(number: int) -> dict[str, str]:
            email = known["email"] if number % 2 else f"x{number}@example.org"
            return {"email": email, "password": "brass lantern 9", "client": "native"}

        flood = [
            asyncio.create_task(post(server, "/api/auth/login", wrong(number), ATTACKER))
            for number in range(500)
        ]
        await good_while(server, flood, known)
        assert Counter(await asyncio.gather(*flood)) == {401: 100, 429: 400}

    with behind_a_proxy(database_kind) as server:
        asyncio.run(work(server))


def test_unauthenticated_clients_from_500_addresses_affect_no_user_either(
    database_kind: str,
) -> None:
    async def work(server: Usher) -> None:
        known = member(server)
        wrong = {"email": known["email"], "password": "brass lantern 9", "client": "native"}
        flood = [
            asyncio.create_task(post(server, "/api/auth/login", wrong, f"2001:db8:{number:x}::1"))
            for number in range(500)
        ]
        await good_while(server, flood, known)
        # 503: more than may wait for the hashing at one time.
        assert set(await asyncio.gather(*flood)) <= {401, 503}

    with behind_a_proxy(database_kind) as server:
        asyncio.run(work(server))
