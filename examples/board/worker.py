"""A worker of the board: no web server, it counts and publishes. A cron job would do the same."""

from __future__ import annotations

import asyncio
import os

import httpx

from usher_client import UsherError
from usher_client.backend import Backend

USHER, KEY = os.environ["USHER_URL"], os.environ["USHER_API_KEY"]
BACKEND, ROOM = os.environ["BOARD_BACKEND"], os.environ["BOARD_ROOM"]
EVERY_SECONDS = 2.0


async def count(backend: httpx.AsyncClient) -> int:
    """How many posts there are."""
    answer = await backend.get("/posts")
    answer.raise_for_status()
    return len(answer.json()["items"])


async def main() -> None:
    """Tell everybody who is looking, again and again."""
    async with (
        Backend(USHER, KEY) as usher,
        httpx.AsyncClient(base_url=BACKEND, timeout=5.0) as backend,
    ):
        while True:
            try:
                await usher.publish(ROOM, "counted", {"posts": await count(backend)})
            except (UsherError, httpx.HTTPError) as error:
                print(f"not counted: {type(error).__name__}", flush=True)
            await asyncio.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
