"""Runs in a node of a soak: SIGUSR2 writes the number of its tasks, which no metric has.

Python imports this by its name at its start, from the folder in PYTHONPATH.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

FOLDER = os.environ.get("SOAK_INSIDE")


def _write(*_: object) -> None:
    kinds = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
    reported = Path(str(FOLDER), f"{os.getpid()}.json")
    reported.with_suffix(".part").write_text(json.dumps(kinds))
    reported.with_suffix(".part").replace(reported)


if FOLDER:
    signal.signal(signal.SIGUSR2, _write)
