"""One target under atheris: `python -m tests.fuzz.one TARGET FOLDER libFuzzer's options`.

Of its own, because atheris ends the process that it runs in.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["services", "handlers", "tests.fuzz", "tornado.httputil"]):
    from tests.fuzz.seeds import dictionary, seeds
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz; ends with status 0 when the time is over and nothing was found."""
    name, folder, *options = sys.argv[1:]
    corpus = Path(folder, "corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = Path(folder, "words")
    words.write_text(dictionary())
    arguments = [sys.argv[0], *options, f"-dict={words}", f"-artifact_prefix={folder}/"]
    atheris.Setup([*arguments, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
