"""`python -m conformance`: the command, if the packages that it needs are there."""

from __future__ import annotations

import sys

from conformance.packages import lacking

if __name__ == "__main__":
    if missing := lacking():
        wanted = f"{sys.executable} -m pip install {' '.join(missing)}"
        print(f"python -m conformance: packages are missing: {wanted}", file=sys.stderr)
        sys.exit(2)

    from conformance.command import main

    sys.exit(main())
