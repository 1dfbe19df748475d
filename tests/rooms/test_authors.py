"""Authors of messages in a history, whose accounts may be deleted."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.bus import LoggedMessage, Window
from services.rooms.authors import author_of, without_name
from services.rooms.room_protocol import kept_body, message_body, message_with_id
from services.websocket.protocol import Member
from tests.support.parts import node

TEXT = st.text(max_size=40)


@given(name=TEXT, data=st.recursive(st.none() | TEXT, lambda inner: st.lists(inner, max_size=3)))
def test_only_the_authors_name_is_removed_from_any_message(name: str, data: object) -> None:
    raw = msgspec.Raw(msgspec.json.encode(data))
    body = message_body("channel:c-1", Member("u_1", name), raw, 1.5)
    assert author_of(body) == "u_1"
    before = msgspec.json.decode(message_with_id("1-0", body))
    after = msgspec.json.decode(message_with_id("1-0", without_name(body)))
    assert after.pop("from") == {"id": "u_1", "name": "", "gone": True}
    assert before.pop("from") == {"id": "u_1", "name": name}
    assert after == before


def test_an_event_of_a_backend_has_no_author_whatever_it_says() -> None:
    data = msgspec.Raw(b'{"room":"channel:c","from":{"id":"u","name":"x"}}')
    body = kept_body("news", "channel:c", data, 1.5)
    assert author_of(body) is None
    assert without_name(body) == body


@pytest.mark.gen_test
async def test_only_unknown_authors_are_asked_for(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await parts.user()
        bodies = [
            message_body("channel:c", Member(who, "Somebody"), msgspec.Raw(b"1"), 1.5)
            for who in (ada, "gone")
        ]
        messages = [LoggedMessage(f"{n}-0", body) for n, body in enumerate(bodies, 1)]
        window = Window(messages, complete=True, more=False)
        existing: set[str] = set()
        shown = await parts.services.authors.shown(window, existing)
        assert [b'"gone":true' in message.body for message in shown.messages] == [False, True]
        assert existing == {ada}
        only = Window(messages[:1], complete=True, more=False)
        assert await parts.services.authors.shown(only, existing) is only
