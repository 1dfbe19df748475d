"""Step-up: whether a user proved lately who they are, and how they prove it again.

Begin with `step_up.py`. `freshness.py` says how long a proof counts, whatever clocks do.

May import: accounts, factors, sessions, storage.
"""
