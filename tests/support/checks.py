"""What the contract says of every refusal, and a way to look at what a server keeps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.databases import look
from tests.support.server import Answer, Usher, close_code, connect, receive

PROBLEM = "application/problem+json"


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Checks that an answer is a problem document (RFC 9457) as the contract has it."""
    assert answer.status == status, (answer.status, answer.text)
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body["status"] == status
    assert answer.body["code"] == code
    assert isinstance(answer.body["title"], str)
    assert answer.body["title"]
    body: dict[str, Any] = answer.body
    return body


def plain_refusal(answer: Answer, status: int, code: str) -> None:
    """The same, and not a word more: nothing tells which part was wrong."""
    assert set(problem(answer, status, code)) == {"status", "title", "code"}


def rows(server: Usher, query: str, *values: object) -> list[Any]:
    """What a server's database says, with `?` for each value; a change is committed."""
    return look(server.database_url, query, *values)


def content(server: Usher) -> dict[str, list[Any]]:
    """Every row of every table of a server's database."""
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        if server.database_url.startswith("sqlite:")
        else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    )
    return {name: rows(server, f"SELECT * FROM {name}") for (name,) in rows(server, query)}


def children(pid: int) -> list[int]:
    """The processes that a process started, as far as they still run."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def holding(words: Iterable[str], text: str | bytes) -> list[str]:
    """Which of the words stand in a text."""
    if isinstance(text, bytes):
        return [word for word in words if word.encode() in text]
    return [word for word in words if word in text]


async def outcome(server: Usher, query: str = "", **options: Any) -> int:
    """0 when a socket that brings its credential is let in, else the code that it ends with."""
    async with connect(server, query, **options) as socket:
        first = await receive(socket)
        if first["event"] == "joined":
            return 0
        assert first["event"] == "closing", first
        code = await close_code(socket)
        assert first["data"]["code"] == code
        return code
