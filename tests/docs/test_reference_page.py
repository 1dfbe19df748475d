"""The page /docs, and how all the descriptions are sent."""

from __future__ import annotations

import re

import pytest

from handlers.reference.asyncapi import PUBLISHED
from services.websocket.protocol import CloseCode
from tests.docs.documents import ALL_SERVER_EVENTS, CLIENT_EVENTS, Json, described_calls
from tests.support.server import Client, Usher


def test_the_page_shows_every_call_event_and_close_code(own: Usher, openapi: Json) -> None:
    page = Client(own).get("/docs").text.decode()
    for _, _, call in described_calls(openapi):
        assert f'id="{call["operationId"]}"' in page
    for event in CLIENT_EVENTS:
        assert f'id="client-event-{event}"' in page
    for event in (*ALL_SERVER_EVENTS, PUBLISHED):
        assert f'id="server-event-{event}"' in page
    for code in CloseCode:
        assert f"<strong>{int(code)}</strong> <code>{code.reason}</code>" in page
    assert len(re.findall("<article ", page)) == (
        sum(1 for _ in described_calls(openapi)) + len(CLIENT_EVENTS) + len(ALL_SERVER_EVENTS) + 1
    )


def test_the_page_needs_no_script_and_no_style_of_its_own(own: Usher) -> None:
    answer = Client(own).get("/docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = answer.text.decode()
    assert re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", page) is None
    style = re.findall(r'<link rel="stylesheet" href="([^"]+)">', page)
    assert [Client(own).get(path).status for path in style] == [200]


def test_links_of_the_page_lead_somewhere(own: Usher) -> None:
    page = Client(own).get("/docs").text.decode()
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    links = set(re.findall(r'<a [^>]*href="([^"]+)"', page))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    outward = [link for link in links if not link.startswith("#")]
    assert {Client(own).get(link).status for link in outward} == {200}


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json", "/docs"])
def test_a_document_is_sent_once(own: Usher, path: str) -> None:
    client = Client(own)
    first = client.get(path)
    assert first.status == 200
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.call("GET", path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.text) == (304, b"")
    assert client.get(path).text == first.text
