"""stub"""

from collections.abc import Callable
from pathlib import Path


def fuzz_http(folder: Path, say: Callable[[str], None]) -> int:
    return 0
