"""The bytes that one sender has in the log of a room, in memory and over a real Redis."""

from __future__ import annotations

import pytest

from services.bus.bus import LARGE_BYTES, SENDER_BYTES, Bus
from services.bus.log_keys import log_key
from tests.bus.ears import ROOM, Installation, installation, redis, said
from tests.support.redis import RealRedis

__all__ = ["redis"]

LARGE = LARGE_BYTES + 1


async def fill(bus: Bus, sender: str, sizes: list[int]) -> list[str]:
    """Messages of these sizes; each begins with its sender and number."""
    texts = [f"{sender} {n}".encode().ljust(size) for n, size in enumerate(sizes)]
    return [await bus.keep(ROOM, text, sender) for text in texts]


async def heads(h: Installation) -> list[str]:
    """Sender and number of each message in the log."""
    return [" ".join(body[:12].decode().split()[:2]) for body in said(await h.read(limit=1000))]


@pytest.mark.gen_test
async def test_a_senders_newest_large_messages_are_kept_up_to_their_bytes(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, sender_bytes=10 * LARGE) as h:
        await fill(h.bus, "ben", [LARGE] * 2)
        ids = await fill(h.bus, "ada", [LARGE] * 25)
        await fill(h.bus, "ben", [LARGE])
        kept = [f"ada {n}" for n in range(15, 25)]
        assert await heads(h) == ["ben 0", "ben 1", *kept, "ben 0"], "nobody else's are removed"
        assert (await h.read(ids[15])).complete
        assert not (await h.read(ids[0])).complete
        assert not (await h.read()).complete, "there is a hole behind the messages of ben"


@pytest.mark.gen_test
async def test_one_message_above_the_bytes_of_its_sender_replaces_the_others(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, sender_bytes=4 * LARGE) as h:
        await fill(h.bus, "ada", [LARGE, LARGE, 70_000])
        assert await heads(h) == ["ada 2"]
        await fill(h.bus, "ada", [LARGE])
        assert await heads(h) == ["ada 0"]


@pytest.mark.gen_test
async def test_small_messages_and_those_without_a_sender_have_no_share_of_bytes(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, sender_bytes=2 * LARGE) as h:
        await fill(h.bus, "ada", [LARGE_BYTES] * 20)
        await fill(h.bus, "", [LARGE] * 20)
        assert len(await heads(h)) == 40


@pytest.mark.gen_test
async def test_messages_that_the_log_lost_already_count_until_newer_ones_push_them_out(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, messages=10, sender_bytes=20 * LARGE) as h:
        await fill(h.bus, "ada", [LARGE] * 100)
        found = await heads(h)
        assert found[-5:] == [f"ada {n}" for n in range(95, 100)]
        assert 5 <= len(found) <= 11, "approximately, as Redis trims"


@pytest.mark.gen_test
async def test_the_bytes_of_a_sender_are_limited_where_they_are_kept(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        for sender in ("ada", "ben"):
            await fill(h.bus, sender, [60_000] * 200)  # 12 MB
        kept = sum(map(len, said(await h.read(limit=1000))))
        assert 2 * (SENDER_BYTES - 60_000) < kept <= 2 * SENDER_BYTES
        if redis is not None:
            used = redis.ask("MEMORY", "USAGE", log_key(ROOM), "SAMPLES", "0")
            assert kept < int(used) < 1.5 * kept
