"""The duration of valid sign-ins while 500 wrong ones from one address are in progress.

    python -m tests.flows.good_logins [sqlite|postgresql]

Each round measures as many good sign-ins, one after the other, without the wrong ones as with them,
so that what else the machine does meets both. The wrong ones come all at once, with connections of
their own, from another process. Who comes in that moment is shown by themselves, as the first.
Ends with 1 where the median of the rounds' ratios is above 3, for the first or for the others.

It is no test: beside other work a p99 of fifty is chance. tests/flows/test_crowds.py is one, of the
order of the answers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import median
from typing import Any, NamedTuple

from tests.flows.test_shares import OWNER, behind_a_proxy, member, post
from tests.support.server import ROOT, Usher

ROUNDS, LOGINS, WRONG = 7, 50, 500
AS_SLOW = 3.0


class Round(NamedTuple):
    """Seconds: p99 without and with the wrong ones, and the one that came with them."""

    quiet: float
    loud: float
    first: float

    @property
    def ratio(self) -> float:
        return self.loud / self.quiet

    @property
    def first_ratio(self) -> float:
        return self.first / self.quiet


async def seconds(server: Usher, known: dict[str, Any]) -> float:
    began = time.perf_counter()
    assert await post(server, "/api/auth/login", known, OWNER) == 200
    return time.perf_counter() - began


async def one_round(server: Usher, known: dict[str, Any], number: int) -> Round:
    quiet = [await seconds(server, known) for _ in range(LOGINS)]
    crowd = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.wrong_logins", str(server.port)),
        *(known["email"], str(WRONG), f"2001:db8:bad:{number:x}::1"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert crowd.stdout is not None
    assert await crowd.stdout.readline() == b"under way\n"
    answered, loud = asyncio.ensure_future(crowd.stdout.readline()), list[float]()
    while not answered.done():
        loud.append(await seconds(server, known))
    statuses = json.loads(await answered)
    assert statuses == {"401": 100, "429": WRONG - 100}, statuses
    assert await crowd.wait() == 0
    return Round(p99(quiet), p99(loud[1:]), loud[0])


def p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


async def measure(server: Usher) -> float:
    """Returns the larger of the median ratios."""
    known, rounds = member(server), list[Round]()
    for number in range(ROUNDS):
        rounds.append(await one_round(server, known, number))
        quiet, loud, first = (figure * 1000 for figure in rounds[-1])
        say(
            f"p99 quiet {quiet:.0f} ms, loud {loud:.0f} ms, ratio {rounds[-1].ratio:.2f}; "
            f"the first {first:.0f} ms, ratio {rounds[-1].first_ratio:.2f}"
        )
    found = median(each.ratio for each in rounds)
    first = median(each.first_ratio for each in rounds)
    say(f"median ratio {found:.2f}; of the first {first:.2f}")
    return max(found, first)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with behind_a_proxy(*(sys.argv[1:2] or ["sqlite"]), LIMIT_SIGNINS=0) as running:
        sys.exit(asyncio.run(measure(running)) > AS_SLOW)
