"""The link to Redis: order, batching, bounds, loss and recovery, against real servers."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from typing import Any

import pytest

from tests.redis.stores import FROZEN, connected, fails, loop
from tests.support.redis import RealRedis, redis_server, run, until, within

__all__ = ["loop", "redis_server"]


# Order and batching


def test_the_commands_of_one_tick_leave_in_one_write(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        writes: list[bytes] = []

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writes.append(data)
                writer.write(b"+PONG\r\n" * data.count(b"*"))  # one for each command
            writer.close()

        path = redis_server.folder / "spy.sock"
        server = await asyncio.start_unix_server(pass_on, path)
        async with connected(f"unix://{path}") as store:
            writes.clear()
            groups = [store.call(("PING",), ("PING",)) for _ in range(5)]
            assert [await group for group in groups] == [[b"PONG"] * 2] * 5
            assert len(writes) == 1
            assert writes[0].count(b"PING") == 10
        server.close()

    run(work(), loop=loop)


def test_replies_stay_in_order_under_many_callers(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        async with connected(redis_server.url) as store:

            async def caller(number: int) -> None:
                for turn in range(20):
                    key, value = f"k{number}", f"{number}-{turn}-" + "x" * (number * 97)
                    got = await store.call(("SET", key, value), ("GET", key), ("MGET", key, "no"))
                    assert got == [b"OK", value.encode(), [value.encode(), None]]

            await asyncio.gather(*(caller(number) for number in range(50)))

    run(work(), loop=loop)


def test_a_cancelled_caller_does_not_shift_the_replies(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        async def ask(text: str) -> Any:
            return await store.call(("PING", text), ("PING", text))

        async with connected(redis_server.url) as store:
            tasks = [asyncio.create_task(ask(str(number))) for number in range(30)]
            await asyncio.sleep(0)  # every task has issued its group
            for task in tasks[::3]:
                task.cancel()
            got = await asyncio.gather(*tasks, return_exceptions=True)
            for number, reply in enumerate(got):
                if number % 3 == 0:
                    assert isinstance(reply, asyncio.CancelledError)
                else:
                    assert reply == [str(number).encode()] * 2

    run(work(), loop=loop)


def test_a_fault_in_what_takes_replies_does_not_shift_the_others(
    redis_server: RealRedis, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        def fault(replies: object) -> None:
            raise RuntimeError("of one who takes replies")

        async with connected(redis_server.url) as store:
            store.tell(("PING",), then=fault)
            assert await store.call(("ECHO", "next")) == [b"next"]
            assert store.available
        assert "could not be used" in caplog.text

    run(work(), loop=loop)


def test_a_large_value_passes(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server.url) as store:
            value = bytes(range(256)) * 8192
            assert await store.call(("SET", "k", value), ("GET", "k")) == [b"OK", value]

    run(work())


# Loss and recovery


def test_a_killed_redis_fails_what_waits_and_comes_back(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        changes: list[bool] = []
        async with connected(redis_server.url, on_change=changes.append) as store:
            redis_server.send_signal(signal.SIGSTOP)
            waiting = [store.call(("GET", "k")) for _ in range(3)]
            redis_server.kill()
            for group in waiting:
                assert "closed" in await fails(group)
            assert not store.available
            refused = store.call(("PING",))
            assert refused.done()  # at once, not after the timeout
            await fails(refused)
            redis_server.start()
            await until(lambda: store.available)
            assert await store.call(("PING",)) == [b"PONG"]
        assert changes == [True, False, True, False]

    run(work(), loop=loop)


def test_a_paused_redis_is_lost_within_the_timeout(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        async with connected(redis_server.url, timeout=FROZEN) as store:
            redis_server.send_signal(signal.SIGSTOP)
            assert await fails(store.call(("INCR", "n"))) == "redis: no answer in time"
            redis_server.send_signal(signal.SIGCONT)
            await until(lambda: store.available)
            assert await store.call(("PING",)) == [b"PONG"]

    run(work(), loop=loop)


def test_a_paused_redis_is_noticed_without_traffic(redis_server: RealRedis) -> None:
    async def work() -> None:
        gone = asyncio.Event()

        def on_change(available: bool) -> None:
            if not available:
                gone.set()

        async with connected(redis_server.url, timeout=FROZEN, on_change=on_change) as store:
            redis_server.send_signal(signal.SIGSTOP)
            await within(gone.wait())
            assert not store.available
            redis_server.send_signal(signal.SIGCONT)
            await until(lambda: store.available)

    run(work())


def test_a_stall_of_our_own_loop_does_not_cost_the_link(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        changes: list[bool] = []
        async with connected(redis_server.url, timeout=FROZEN, on_change=changes.append) as store:
            group = store.call(("PING",))
            await asyncio.sleep(0)  # it is written, its reply will lie unread in the socket
            time.sleep(2 * FROZEN)  # noqa: ASYNC251 - the stall that is tested
            assert await group == [b"PONG"]
            assert changes == [True]

    run(work(), loop=loop)


def test_a_killed_connection_comes_back(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        changes: list[bool] = []
        async with connected(redis_server.url, on_change=changes.append) as store:
            redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: changes == [True, False, True])
            assert await store.call(("PING",)) == [b"PONG"]

    run(work(), loop=loop)


def test_a_redis_that_starts_later_is_found(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        redis_server.kill()
        async with connected(redis_server.url) as store:
            assert not store.available
            await fails(store.call(("PING",)))
            redis_server.start()
            await until(lambda: store.available)
            assert await store.call(("SET", "k", 1)) == [b"OK"]

    run(work(), loop=loop)


def test_a_redis_frozen_from_the_start_does_not_block_the_start(redis_server: RealRedis) -> None:
    async def work() -> None:
        redis_server.send_signal(signal.SIGSTOP)
        async with connected(redis_server.url, timeout=FROZEN) as store:
            assert (store.available, store.reason) == (False, "no answer in time")
            redis_server.send_signal(signal.SIGCONT)
            await until(lambda: store.available)

    run(work())


def test_something_that_is_not_redis_is_not_available(redis_server: RealRedis) -> None:
    async def work() -> None:
        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        path = redis_server.folder / "http.sock"
        server = await asyncio.start_unix_server(nonsense, path)
        async with connected(f"unix://{path}") as store:
            assert (store.available, store.reason) == (False, "redis: not the Redis protocol")
        server.close()

    run(work())


def test_a_group_that_is_not_awaited_fails_silently(redis_server: RealRedis) -> None:
    async def work() -> list[Any]:
        reports: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with connected(redis_server.url) as store:
            redis_server.send_signal(signal.SIGSTOP)
            store.call(("PING",))
            redis_server.kill()
            await until(lambda: not store.available)
            store.call(("PING",))
        gc.collect()
        return reports

    assert run(work()) == []


def test_a_fault_in_the_listener_does_not_cost_the_link(redis_server: RealRedis) -> None:
    async def work() -> None:
        def broken(available: bool) -> None:
            raise RuntimeError("a bug")

        async with connected(redis_server.url, on_change=broken) as store:
            redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: not store.available)
            await until(lambda: store.available)

    run(work())


def test_closing_fails_what_waits(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        async with connected(redis_server.url) as store:
            redis_server.send_signal(signal.SIGSTOP)
            waiting = store.call(("PING",))
        assert await fails(waiting) == "closed"
        await store.close()  # again
        await store.connect()
        assert not store.available

    run(work(), loop=loop)


def test_closing_works_while_redis_is_unavailable(redis_server: RealRedis, loop: str) -> None:
    async def work() -> None:
        redis_server.kill()
        async with connected(redis_server.url):
            pass
        assert "redis-keeper" not in {task.get_name() for task in asyncio.all_tasks()}

    run(work(), loop=loop)


# Bounds


def test_more_than_the_bound_of_groups_is_refused(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server.url, max_groups=3) as store:
            groups = [store.call(("PING",)) for _ in range(4)]
            assert await fails(groups[3]) == "redis: too much is waiting"
            assert [await group for group in groups[:3]] == [[b"PONG"]] * 3
            assert await store.call(("PING",)) == [b"PONG"]  # there is room again

    run(work())


def test_more_than_the_bound_of_bytes_is_refused(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server.url, max_bytes=10_000) as store:
            first = store.call(("SET", "k", b"x" * 6000))
            assert await fails(store.call(("SET", "k", b"y" * 6000))) == (
                "redis: too much is waiting"
            )
            assert await first == [b"OK"]
            assert await store.call(("SET", "k", b"z" * 6000)) == [b"OK"]

    run(work())
