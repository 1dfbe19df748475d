"""docs/protocol.md compared with the code: close codes, limits, events, and its examples, run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from handlers.websocket.room_events import HISTORY_BYTES, HISTORY_PAGE, MAX_PEOPLE
from services.rooms.presence import PEOPLE_AT_ONCE
from services.rooms.room_protocol import MAX_ROOM_NAME
from services.rooms.usage import FADE_SECONDS
from services.websocket.connection import OUTBOX_BYTES
from services.websocket.protocol import (
    CLOSE_MEANINGS,
    MAX_MESSAGE_BYTES,
    MAX_UNJOINED_MESSAGE_BYTES,
    RETRY_MEANINGS,
    CloseCode,
    Retry,
)
from tests.docs.documents import ALL_SERVER_EVENTS, CLIENT_EVENTS, Json
from tests.support.markdown import table
from tests.support.server import PATIENCE, ROOT, Usher

PROTOCOL = (ROOT / "docs/protocol.md").read_text("utf-8")

# ---- close codes, in every place -----------------------------------------------------------


def test_close_codes_are_explained_everywhere(asyncapi: Json) -> None:
    assert list(CLOSE_MEANINGS) == list(CloseCode)
    assert list(RETRY_MEANINGS) == list(Retry)
    expected = [[str(int(c)), c.reason, c.retry.value, CLOSE_MEANINGS[c]] for c in CloseCode]
    assert table(PROTOCOL, "close") == expected
    assert [[str(value) for value in row.values()] for row in asyncapi["x-close-codes"]] == expected


def test_the_limits_are_those_of_the_code() -> None:
    limits = {row[0]: row[1] for row in table(PROTOCOL, "what")}
    assert limits["a message"] == f"{MAX_MESSAGE_BYTES // 1024} KiB"
    assert limits["a message before the join"] == f"{MAX_UNJOINED_MESSAGE_BYTES // 1024} KiB"
    assert limits["unread data of a slow client"].startswith(f"{OUTBOX_BYTES // 1024} KiB")
    assert limits["the name of a room, of a model"] == f"{MAX_ROOM_NAME} characters"
    page = f"{HISTORY_PAGE} messages or {HISTORY_BYTES // 1024} KiB"
    assert limits["a reply to `history`"] == page
    assert limits["users named by `presence`"] == f"{MAX_PEOPLE:,}"
    assert limits["users in one `presence` event"] == str(PEOPLE_AT_ONCE)
    assert limits["a use that is not repeated"] == f"{FADE_SECONDS:.0f} seconds"
    said = CLOSE_MEANINGS[CloseCode.MESSAGE_TOO_BIG] + CLOSE_MEANINGS[CloseCode.SLOW_CONSUMER]
    numbers = (MAX_MESSAGE_BYTES, MAX_UNJOINED_MESSAGE_BYTES, OUTBOX_BYTES)
    assert re.findall(r"(\d+) KiB", said) == [str(number // 1024) for number in numbers]


# ---- events and examples --------------------------------------------------------------------


def test_the_events_of_the_protocol_document_are_those_of_the_code() -> None:
    assert [row[0] for row in table(PROTOCOL, "client sends")] == list(CLIENT_EVENTS)
    assert [row[0] for row in table(PROTOCOL, "server sends")] == list(ALL_SERVER_EVENTS)


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run_example(server: Usher, number: int) -> str:
    """What an example prints that follows the beginning which all of them have."""
    beginning, *examples = blocks(PROTOCOL)
    assert len(examples) == 8
    script = (beginning + examples[number - 1]).replace("http://127.0.0.1:8888", server.url)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        env={**os.environ, "no_proxy": "*"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("way", [1, 2, 3, 4, 5])
def test_the_examples_of_the_five_methods_join(server: Usher, way: int) -> None:
    frame = json.loads(run_example(server, way))
    assert frame["event"] == ("reply" if way == 5 else "joined")
    assert frame["data"]["user"]["name"] == "Ada"


def test_in_the_example_of_a_room_two_users_talk(own: Usher) -> None:
    # Not the server of all: it opens a channel to everybody, which others would see in their lists.
    said, kept = run_example(own, 6).splitlines()
    assert said == "Ada tea?"
    assert "'data': 'tea?'" in kept


def test_in_the_example_of_a_step_up_the_room_is_entered(own: Usher) -> None:
    assert run_example(own, 7).splitlines() == ["True"]


def test_the_example_for_authors_of_clients_leaves_its_loop_at_a_refusal(server: Usher) -> None:
    assert run_example(server, 8).splitlines() == ["closing", "4401 login"]
