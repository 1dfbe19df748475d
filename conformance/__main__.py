"""`python -m conformance`: the command, if the packages that it needs are there."""

from __future__ import annotations

import sys

from conformance.packages import lacking

if __name__ == "__main__":
    if missing := lacking():
        wanted = f"{sys.executable} -m pip install {' '.join(missing)}"
        said = "packages are missing. Install them with:"
        print(f"python -m conformance: {said} {wanted}", file=sys.stderr)
        sys.exit(2)

    from conformance.command import main

    sys.exit(main())
