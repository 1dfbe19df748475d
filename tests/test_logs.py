"""services/logs.py: no secrets, one line for repeated ones, as text or as JSON."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.logs import BURST, MAX_WAITING, LogHandler, Writer, redact
from services.opaque import opaque_token

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
USER_ID = "Zk3vQ0m8TnO2sYb1wXcR4g"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A logger of its own with the handler under test."""

    def __init__(self, log_format: str = "text", secrets: tuple[str, ...] = ()) -> None:
        self.stream, self.clock = io.StringIO(), Clock()
        self.handler = LogHandler(Writer(self.stream), log_format, secrets, self.clock)
        self.logger = logging.Logger("usher.test")  # noqa: LOG001 - not of this process
        self.logger.addHandler(self.handler)

    def lines(self) -> list[str]:
        self.handler.close()
        return self.stream.getvalue().splitlines()

    def messages(self) -> list[str]:
        return [line.partition("usher.test: ")[2] for line in self.lines()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"header {JWT}", "header [hidden]"),
        (f"b'Authorization: Bearer {JWT}\\x01'", "b'Authorization: Bearer [hidden]\\x01'"),
        ("Authorization: BASIC YWRhOnNlY3JldA==", "Authorization: BASIC [hidden]"),
        ("usher.v1, usher.bearer.abc", "usher.v1, [hidden]"),
        ("key usher_key_abc is", "key [hidden] is"),
        ("usher_rt.abcd.Zk3vQ0m8.x.y", "[hidden]"),
        ("ada@example.org", "[e-mail]"),
        ("Ada.L+x@Exämple.org is", "[e-mail] is"),
        ("/api/x/ada%40example.org/y", "/api/x/[e-mail]/y"),
        ("GET /ws?ticket=abc", "GET /ws?[query]"),
        ("https://x/cb?code=1&state=2#y: no", "https://x/cb?[query] no"),
        ("/reset#token=abc", "/reset?[query]"),
        ("gAAAAABk0123456789_-abcdefghij==", "[hidden]"),
        # What an operator needs stays.
        (f"user {USER_ID} at 2001:db8::1", f"user {USER_ID} at 2001:db8::1"),
        ("postgresql://usher:********@db:5432/x", "postgresql://usher:********@db:5432/x"),
        ("postgresql://usher@db/x", "postgresql://usher@db/x"),
        ("is it the right one?) yes? no", "is it the right one?) yes? no"),
        ("USHER_JWT_SECRETS is not a setting", "USHER_JWT_SECRETS is not a setting"),
        ("a bearer token opened another socket", "a bearer token opened another socket"),
        ("test_that_a_long_name_in_snake_case_is_no_secret_at_all", None),
    ],
)
def test_what_is_secret_is_hidden_and_what_is_not_stays(text: str, shown: str | None) -> None:
    assert redact(text) == (shown if shown is not None else text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_random_token_is_written_whatever_stands_around_it(before: str, after: str) -> None:
    token = opaque_token().reveal()
    assert token not in redact(f"{before} {token} {after}")
    assert "ada@example.org" not in redact(f"{before} ada@example.org {after}")


def test_the_values_of_settings_are_hidden_wherever_they_stand() -> None:
    log = Log(secrets=("hunter2hunter2", "hunter2hunter2-longer"))
    log.logger.info("a %s b", "hunter2hunter2-longer")
    log.handler.hide(["newsecret1"])
    log.logger.info("xnewsecret1x")
    assert log.messages() == ["a [hidden] b", "x[hidden]x"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_arguments_tracebacks_and_stacks_are_harmless(log_format: str) -> None:
    log = Log(log_format)
    try:
        raise ValueError(f"no {JWT}")
    except ValueError:
        log.logger.exception("failed for %s", "ada@example.org", stack_info=True)
    text = "\n".join(log.lines())
    assert "Traceback" in text
    assert "ValueError: no [hidden]" in text
    assert JWT not in text
    assert "ada" not in text


def test_what_tornado_quotes_is_left_out() -> None:
    stream = io.StringIO()
    handler = LogHandler(Writer(stream))
    logger = logging.Logger("tornado.general")  # noqa: LOG001 - not of this process
    logger.addHandler(handler)
    cause = ValueError("Invalid header value 'short-secret\\x01'")
    logger.info("Malformed HTTP message from %s: %s", "::1", cause)
    logger.info("Malformed HTTP message from %s: %s", "::1", ValueError("Invalid query: a=b"))
    handler.close()
    first, second = stream.getvalue().splitlines()
    assert first.endswith("Malformed HTTP message from ::1: Invalid header value")
    assert second.endswith("Malformed HTTP message from ::1: Invalid query")


def test_no_input_creates_log_lines() -> None:
    log = Log()
    log.logger.info("user agent %s", "x\r\n2026 CRITICAL forged\x1b[2J\u2028y")
    (line,) = log.lines()
    assert line.endswith("user agent x\\r\\n2026 CRITICAL forged\\x1b[2J\\u2028y")


def test_a_line_of_json_has_stable_names() -> None:
    log = Log("json")
    log.logger.warning("%d of %s", 3, "x\ny")
    line = json.loads(log.lines()[0])
    assert set(line) == {"time", "level", "logger", "message"}
    assert (line["level"], line["logger"], line["message"]) == (
        "warning",
        "usher.test",
        "3 of x\\ny",
    )
    assert line["time"].endswith("Z")


# ---- what repeats ---------------------------------------------------------------------------


def test_a_warning_that_repeats_is_said_once_and_counted() -> None:
    log = Log()
    for second in range(92):
        log.clock.now = 1000.0 + second
        log.logger.warning("redis is away for %d s", second)
    said = log.messages()
    assert said[0] == "redis is away for 0 s"
    assert len(said) <= 6
    counted = sum(int(line.split("(and ")[1].split()[0]) for line in said[1:])
    assert counted == 91
    assert said[1] == "redis is away for 9 s (and 9 more like it in 10 s)"


def test_different_warnings_do_not_hide_each_other() -> None:
    log = Log()
    for name in ("sweep", "health", "sweep"):
        log.logger.warning("%s failed", name)
    assert log.messages()[:2] == ["sweep failed", "health failed"]


def test_what_was_counted_is_said_although_nothing_else_happens() -> None:
    log = Log()
    log.logger.error("x")
    log.logger.error("x")
    log.clock.now += 11
    asyncio.run(log.handler.report_repeated())
    assert log.messages() == ["x", "x (and 1 more like it in 11 s)"]


def test_a_warning_that_comes_back_after_a_while_is_said_again() -> None:
    log = Log()
    log.logger.warning("x")
    log.clock.now += 11
    log.logger.warning("x")
    assert log.messages() == ["x", "x"]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_a_flood_of_lines_that_differ_is_bounded(level: int) -> None:
    log = Log()
    for number in range(20_000):
        log.logger.log(level, "GET /%s: not_found", chr(97 + number % 26) * (number % 40))
    assert len(log.lines()) <= 2 * BURST + 2


# ---- writing --------------------------------------------------------------------------------


class Stuck(io.StringIO):
    """A stream that nobody reads until `free` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        assert self.free.wait(20)
        return super().write(text)


def test_a_log_that_is_not_read_blocks_no_caller_and_is_bounded() -> None:
    stream = Stuck()
    writer = Writer(stream)
    for number in range(MAX_WAITING + 500):
        writer.write(f"{number}\n")  # would hang here
    stream.free.set()
    writer.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "0"
    assert len(lines) <= MAX_WAITING + 3
    (reported,) = [line for line in lines if "could not be written" in line]
    assert int(reported.split()[1]) >= 498


def test_a_closed_stream_is_not_an_error() -> None:
    stream = io.StringIO()
    writer = Writer(stream)
    stream.close()
    writer.write("x\n")
    writer.close()


def test_lines_keep_their_order() -> None:
    log = Log()
    for number in range(BURST):
        log.logger.info("line %d", number)
    assert log.messages() == [f"line {number}" for number in range(BURST)]


def test_any_text_gives_one_line(caplog: Any) -> None:
    log = Log("json")
    log.logger.info("%s", "\ud800 \x00")
    assert json.loads(log.lines()[0])["message"]
