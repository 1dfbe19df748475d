"""How smoothly a full room scrolls: `python -m benchmarks.scrolling [--runs N] [--throttle N]`.

In Chromium with its CPU throttled: a room with the 1,000 messages that a server keeps is scrolled
from the end to the beginning and back, as with a finger that pulls fast. The times between frames
are those of `requestAnimationFrame`. Then 40 messages come in while all are shown, and the work of
the main thread for each is taken from Chromium's own counters (script, style, layout).

`--auto` lays out only what is in view, by `content-visibility`: the page does not, because it costs
more than it saves (docs/performance.md).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.support.browser import Visitor, chromium, visitors
from tests.support.raw import PING, PONG, TEXT, RawClient, by_header, event, frame, joined
from tests.support.server import Client, Usher, sign_up, usher

MESSAGES, MORE, AUTHORS = 1000, 40, 4
HEIGHT_PX, SPEED_PX = 800, 8000
FRAME_MS = 1000 / 60
LATE_MS = 2 * FRAME_MS
"""A frame after more than this left one out."""
MAX_PULLS, MOST_WORDS = 20, 64
WORDS = "the lantern room is open this evening and the third step is loose so mind it"
AUTO = ".lines li { content-visibility: auto; contain-intrinsic-size: auto 1.75rem; }"
ADOPT = """(text) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  document.adoptedStyleSheets = [sheet];
}"""
WATCH = """() => {
  const watch = { times: [], on: true };
  const next = (now) => { watch.times.push(now); if (watch.on) requestAnimationFrame(next); };
  requestAnimationFrame(next);
  globalThis.watch = watch;
}"""
STOP = "() => { watch.on = false; return watch.times; }"
TASKS = ("TaskDuration",)
WORK = ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--throttle", type=float, default=4)
    parser.add_argument("--auto", action="store_true")
    chosen = parser.parse_args()
    with chromium() as browser, usher("sqlite", MESSAGE_RATE=5000) as server:
        authors = [sign_up(server) for _ in range(AUTHORS)]
        room = full_room(server, authors)
        found = [measured(browser, server, authors, room, chosen) for _ in range(chosen.runs)]
    gaps = sorted(gap for run, _, _ in found for gap in run)
    late = sum(gap > LATE_MS for gap in gaps)
    work = [ms for _, run, _ in found for ms in run]
    all_of_it = [ms for _, _, ms in found]
    sys.stdout.write(
        f"{len(gaps)} frames of {chosen.runs} runs, CPU / {chosen.throttle:g}: median "
        f"{statistics.median(gaps):.1f} ms, p95 {_at(gaps, 0.95):.1f} ms, p99 "
        f"{_at(gaps, 0.99):.1f} ms, longest {gaps[-1]:.1f} ms; {late} ({late / len(gaps):.1%}) "
        f"left a frame out\n"
        f"scrolling: {statistics.median(all_of_it):.0f} ms of CPU of the main thread\n"
        f"a message that comes in: {statistics.median(work):.1f} ms of that CPU "
        f"(most {max(work):.1f} ms)\n"
    )
    return 0


def full_room(server: Usher, authors: list[Client]) -> str:
    """A channel in which everything has been said that is kept."""
    answer = authors[0].post("/api/channels", {"name": "Lantern room", "private": False})
    room = f"channel:{answer.body['id']}"
    for place, author in enumerate(authors):
        with joined(server, by_header(author.token)) as socket:
            for number in range(MESSAGES // AUTHORS):
                length = 3 + (number * 7 + place) % MOST_WORDS
                _say(socket, room, " ".join((WORDS.split() * 4)[:length]))
    return room


def _say(socket: RawClient, room: str, text: str) -> None:
    socket.send(event("message", "said", {"room": room, "data": {"text": text}}))
    while True:
        opcode, payload = socket.frame()
        if opcode == PING:
            socket.send(frame(payload, PONG))
        reply = json.loads(payload) if opcode == TEXT else {}
        if reply.get("id") == "said":  # not presence, nor the message itself
            assert reply["ok"], reply
            return


def measured(
    browser: Browser,
    server: Usher,
    authors: list[Client],
    room: str,
    chosen: argparse.Namespace,
) -> tuple[list[float], list[float], float]:
    """Milliseconds between frames, of CPU for each message that came in, and of scrolling."""
    with visitors(browser, server) as new:
        visitor = new()
        page = _opened(visitor, authors[0].user["email"], room)
        if chosen.auto:
            page.evaluate(ADOPT, AUTO)
        link = page.context.new_cdp_session(page)
        link.send("Emulation.setCPUThrottlingRate", {"rate": chosen.throttle})
        link.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU, whatever else runs
        before = _cpu(link, TASKS)
        page.evaluate(WATCH)
        for direction in (1, -1):
            _pull(page, link, direction)
        times = page.evaluate(STOP)
        scrolled = _cpu(link, TASKS) - before
        work = _arrivals(server, page, link, authors[1], room)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        return gaps, work, scrolled


def _opened(visitor: Visitor, email: str, room: str) -> Page:
    tab = visitor.arrive_as(email)  # nobody reads what was said before they had an account
    tab.page.goto(f"{visitor.server.url}/#/rooms/{room}")
    tab.page.set_viewport_size({"width": 1280, "height": HEIGHT_PX})
    expect(tab.at("#lines .said")).to_have_count(MESSAGES)
    return tab.page


def _pull(page: Page, link: CDPSession, direction: int) -> None:
    """From one end to the other. Heights that are estimated become known on the way."""
    box = page.locator("#lines").bounding_box()
    assert box is not None
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    below = "e => e.scrollHeight - e.scrollTop - e.clientHeight"
    far = "e => e.scrollTop" if direction > 0 else below
    for _ in range(MAX_PULLS):
        if page.locator("#lines").evaluate(far) < 2:
            return
        link.send(
            "Input.synthesizeScrollGesture",
            {**at, "yDistance": direction * 10_000, "speed": SPEED_PX, "preventFling": True},
        )
    raise AssertionError("the list has no end")


def _arrivals(
    server: Usher, page: Page, link: CDPSession, author: Client, room: str
) -> list[float]:
    found = []
    with joined(server, by_header(author.token)) as socket:
        for number in range(MORE):
            text = f"number {number} of those that come in"
            before = _cpu(link, WORK)
            _say(socket, room, text)
            expect(page.locator("#lines .said", has_text=text)).to_be_visible()
            found.append(_cpu(link, WORK) - before)
    return found


def _cpu(link: CDPSession, names: tuple[str, ...]) -> float:
    """Milliseconds of CPU of the main thread until now."""
    metrics: list[dict[str, Any]] = link.send("Performance.getMetrics")["metrics"]
    return 1000 * sum(float(one["value"]) for one in metrics if one["name"] in names)


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    sys.exit(main())
