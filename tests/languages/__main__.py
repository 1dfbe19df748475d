"""Runs WebSocket libraries of many languages against a server that writes each byte itself.

    python -m tests.languages [--write] [WORD …]

`make test-clients` installs what is needed from Debian; PyPI's and npm's packages go to a temporary
folder. A library that is not here is skipped. `--write` puts the table into docs/clients.md.
"""

from __future__ import annotations

import sys

from tests.languages.table import main

sys.exit(main(sys.argv[1:]))
