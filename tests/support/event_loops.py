"""The end of a test's event loop."""

from __future__ import annotations

import warnings

from tornado.ioloop import IOLoop

OF_UVLOOP = "unclosed resource"
"""How its warning of a transport begins."""


def close_loop(io_loop: IOLoop) -> None:
    """Close a loop, and warn of each transport that was left open.

    uvloop warns of it while it closes it. Where that warning is an error (pyproject.toml), the
    transport stays open, and uvloop waits for it: a failed test would hold up its worker for ever.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        io_loop.close(all_fds=False)
    for reported in caught:
        # Not what the collector finds at the same time: that is of any test before.
        if str(reported.message).startswith(OF_UVLOOP):
            warnings.warn_explicit(
                reported.message, reported.category, reported.filename, reported.lineno
            )
