"""What can go wrong in a run. A run that fails gives no figure."""


class BenchmarkFailed(Exception):
    """The work was not done as described (a refused join, a wrong reply, a dead server)."""
