"""Runs Usher with real providers, and records the result of each flow.

    python -m tests.providers [--write] [NAME …]

Installs pinned packages from npm, PyPI and Debian into a temporary folder, and needs npm, Python
and apt-get for that. `--write` puts the table into docs/oauth.md.
"""

from __future__ import annotations

import sys

from tests.providers.real.table import main

sys.exit(main(sys.argv[1:]))
