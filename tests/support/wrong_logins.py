"""Wrong passwords in parallel, from a process of their own: they must not slow down who measures.

    python -m tests.support.wrong_logins PORT EMAIL COUNT IP

A line says when all are under way; the next one, as JSON, how often each status was answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter


async def wrong_login(port: int, email: str, ip: str, begun: asyncio.Queue[None]) -> int:
    """One of them, on a connection of its own. Returns the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"email": email, "password": "brass lantern 9", "client": "native"})
    head = (
        f"POST /api/auth/login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Forwarded-For: {ip}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    writer.write((head + body).encode())
    await writer.drain()
    begun.put_nowait(None)
    status = int((await reader.readline()).split()[1])
    await reader.read()
    writer.close()
    return status


async def main(port: int, email: str, count: int, ip: str) -> None:
    """Half of them at the account of `email`, the others at accounts that there are not."""
    begun: asyncio.Queue[None] = asyncio.Queue()
    emails = (email if number % 2 else f"x{number}@example.org" for number in range(count))
    tasks = [asyncio.create_task(wrong_login(port, each, ip, begun)) for each in emails]
    for _ in tasks:
        await begun.get()
    say("under way")
    say(json.dumps(Counter(await asyncio.gather(*tasks))))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
