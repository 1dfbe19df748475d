"""How much one socket may ask: what is refused, what waits, what ends it, and what it costs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from handlers.websocket.socket import CLOCK_STEP_SECONDS
from services.websocket.connection import READ_AWAY_BYTES
from services.websocket.message_rate import (
    CALM_PART,
    GOING_ON_SECONDS,
    QUIET_SECONDS,
    REFUSED_AT_ONCE,
    REFUSED_BYTES,
    Excess,
    TokenBucket,
)
from services.websocket.protocol import MAX_MESSAGE_BYTES
from tests.support.flood import Flood, cpu_seconds
from tests.support.raw import PING, PONG, by_subprotocol, event, frame, joined, quiet_usher
from tests.support.server import Client, Usher, sign_up

BEATS = event("heartbeat", 1) * 500
LARGE = event("heartbeat", 1, "x" * 60_000) * 20
TINY = frame(b"", 0, final=False) * 2000
"""The middle of a message that never ends; `BEGINNING` comes before it."""
BEGINNING = frame(b"", final=False)


# ---- the rule, by a clock of the test ---------------------------------------------------------


def test_a_burst_is_accepted_then_the_rate_and_retry_after_is_correct() -> None:
    bucket = TokenBucket(rate=50, burst=200, now=100.0)
    assert [bucket.take(100.0) for _ in range(200)] == [0.0] * 200
    wait = bucket.take(100.0)
    assert wait == pytest.approx(1 / 50)
    assert bucket.take(100.0 + wait / 2) > 0
    assert bucket.take(100.0 + wait + 1e-9) == 0.0
    assert [bucket.take(101.1) for _ in range(54)].count(0.0) == 53


def test_rest_restores_at_most_the_burst() -> None:
    bucket = TokenBucket(rate=50, burst=200, now=0.0)
    assert [bucket.take(1e6) for _ in range(201)].count(0.0) == 200


def test_a_restricted_socket_has_the_rate_and_a_part_of_the_burst() -> None:
    bucket = TokenBucket(rate=50, burst=200, now=0.0)
    assert [bucket.take(0.0) for _ in range(201)].count(0.0) == 200
    bucket.restrict_burst(0.0, 4.0)
    assert [bucket.take(3.9) for _ in range(50)].count(0.0) == 200 // CALM_PART
    now = 3.9
    for _ in range(4):  # who keeps to the rate has all of it
        now += 1 / 50
        assert bucket.take(now) == 0.0
    assert [bucket.take(100.0) for _ in range(201)].count(0.0) == 200


def test_of_many_at_once_as_many_are_counted_as_there_were() -> None:
    bucket = TokenBucket(rate=10, burst=100, now=0.0)
    assert bucket.take_all(60, 0.0) == 40
    assert bucket.take_all(60, 0.0) == 0
    assert bucket.take_all(0, 1.0) == 10


def test_a_sender_without_rest_is_detected_and_rest_resets_the_count() -> None:
    excess, now = Excess(), 1000.0
    while now < 1000.0 + GOING_ON_SECONDS:
        assert not excess.is_persistent(now)
        now += QUIET_SECONDS * 0.9
    assert excess.is_persistent(now)
    assert not excess.is_persistent(now + QUIET_SECONDS * 1.1)


def test_refusals_are_bounded_in_number_and_in_bytes() -> None:
    excess = Excess()
    for _ in range(2):
        reported = [excess.should_pause(1) for _ in range(REFUSED_AT_ONCE)]
        assert reported == [False] * (REFUSED_AT_ONCE - 1) + [True]
    assert excess.should_pause(REFUSED_BYTES)
    assert not excess.should_pause(1)


# ---- against a real server --------------------------------------------------------------------


@pytest.fixture(scope="module")
def installation(socket_kind: str) -> Iterator[Usher]:
    with quiet_usher(socket_kind) as server:
        yield server


@pytest.fixture
def ada(installation: Usher) -> Client:
    return sign_up(installation)


def test_above_the_burst_frames_are_refused_with_a_time_and_the_socket_continues(
    installation: Usher, ada: Client
) -> None:
    with joined(installation, by_subprotocol(ada.token)) as client:
        client.send(b"".join(event("heartbeat", number) for number in range(230)))
        replies = [client.event() for _ in range(230)]
        assert [reply["id"] for reply in replies] == list(range(230)), "each once, in its turn"
        assert all(reply["ok"] for reply in replies[:200])
        refused = [reply["error"] for reply in replies if not reply["ok"]]
        assert len(refused) >= 10
        assert {error["code"] for error in refused} == {"rate_limited"}
        assert all(0 < error["retry_after"] <= 1 / 50 + CLOCK_STEP_SECONDS for error in refused)
        time.sleep(refused[-1]["retry_after"])  # the announced pause is used
        client.lives()


def test_a_message_that_was_refused_was_not_said(installation: Usher, ada: Client) -> None:
    room = "channel:" + ada.post("/api/channels", {"name": "kitchen"}).body["id"]
    with joined(installation, by_subprotocol(ada.token)) as client:
        said = [event("message", n, {"room": room, "data": n}) for n in range(230)]
        client.send(b"".join(said))
        ok, received = dict[int, bool](), list[int]()
        while len(ok) < 230 or len(received) < sum(ok.values()):
            got = client.event()
            if got["event"] == "reply":
                ok[got["id"]] = got["ok"]
            elif got["event"] == "message":
                received.append(got["data"]["data"])
        assert list(ok) == list(range(230))
        assert received == [number for number, taken in ok.items() if taken]
        assert len(received) < 230


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [BEATS, frame(b"", PING) * 2000, frame(b"", PONG) * 2000, TINY],
    ids=["events", "pings", "pongs", "fragments"],
)
def test_a_flood_waits_at_its_sender_and_delays_no_other(
    installation: Usher, ada: Client, block: bytes
) -> None:
    ben = sign_up(installation)
    with (
        joined(installation, by_subprotocol(ada.token)) as loud,
        joined(installation, by_subprotocol(ben.token)) as other,
    ):
        if block is TINY:
            loud.send(BEGINNING)
        flood = Flood(loud, block)
        thread = threading.Thread(target=flood.run, args=(3.0,))
        thread.start()
        while thread.is_alive():
            other.lives()
            time.sleep(0.1)  # others have a rate, too
        thread.join()
        if installation.through_tornado and block is not BEATS:
            # Tornado reads pings, pongs and fragments by itself: such a socket is ended.
            assert flood.ending is not None
            assert flood.ending.code == 4429
            assert flood.pongs < 5000
            return
        assert flood.ending is None
        # A second at the socket's rate, and what the kernels on the way hold.
        assert len(flood.events) + flood.pongs < 1000
        rest = Flood(loud, frame(b"", PING)).run(1.0)
        assert rest.ending is None


def test_data_after_the_close_is_read_slowly(installation: Usher, ada: Client) -> None:
    with joined(installation, by_subprotocol(ada.token)) as client:
        client.send(frame(b"x" * (MAX_MESSAGE_BYTES + 1)))  # closed with 1009
        sent, block, end = 0, b"\0" * 256 * 1024, time.monotonic() + 10
        try:
            while time.monotonic() < end:
                sent += client.socket.send(block)
        except OSError:
            pass  # TCP is closed a second after the end
        assert time.monotonic() < end
        # Beside what is read away at once there is room in the kernel's buffers.
        assert sent < READ_AWAY_BYTES + 32 * 1024 * 1024


def test_tiny_fragments_within_the_rate_are_a_message(installation: Usher, ada: Client) -> None:
    text = json.dumps({"event": "heartbeat", "id": 1}).encode()
    with joined(installation, by_subprotocol(ada.token)) as client:
        for _ in range(3):
            parts = [frame(text[:1], final=False)]
            parts += [frame(text[i : i + 1], 0, final=False) for i in range(1, len(text))]
            client.send(b"".join(parts) + frame(b"", 0))
            assert client.event()["ok"] is True


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "block",
    [BEATS, LARGE, frame(b"", PING) * 2000, TINY],
    ids=["events", "large", "pings", "fragments"],
)
def test_a_flood_costs_under_two_hundredths_of_a_core_and_ends_after_ten_seconds(
    installation: Usher, ada: Client, block: bytes
) -> None:
    # An idle server spends about 0.5 % of a core on its own work. Work of its own that falls into
    # one flood (6.8 % were seen once) does not fall into each of three.
    parts = [part_of_a_core(installation, ada, block)]
    while parts[-1] >= 0.02 and len(parts) < 3:
        parts.append(part_of_a_core(installation, ada, block))
    assert min(parts) < 0.02, [f"{part:.2%} of a core" for part in parts]


def part_of_a_core(installation: Usher, ada: Client, block: bytes) -> float:
    """What a flood costs until it is ended; 0 where it is ended at once."""
    with joined(installation, by_subprotocol(ada.token)) as client:
        if block is TINY:
            client.send(BEGINNING)
        before = cpu_seconds(installation)
        flood = Flood(client, block).run(GOING_ON_SECONDS + 5)
        spent = cpu_seconds(installation) - before
        assert flood.ending is not None
        if installation.through_tornado and block not in (BEATS, LARGE):
            # Ended at once, see above. Who still writes may get a reset in place of the code.
            assert flood.ending.code in {4429, 1006}
            assert flood.took < GOING_ON_SECONDS
            return 0.0
        assert flood.ending.code == 4429
        assert flood.ending.closing["retry"] == "backoff"
        assert GOING_ON_SECONDS - 1 < flood.took < GOING_ON_SECONDS + 4
        return spent / flood.took


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_sender_within_the_rate_is_never_refused(installation: Usher, ada: Client) -> None:
    with joined(installation, by_subprotocol(ada.token)) as client:
        end = time.monotonic() + GOING_ON_SECONDS + 3
        while time.monotonic() < end:
            client.send(b"".join(event("heartbeat", number) for number in range(9)))
            assert all(client.event()["ok"] for _ in range(9))
            time.sleep(0.2)  # 45 a second at most
