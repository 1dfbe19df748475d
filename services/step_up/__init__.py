"""Step-up: whether a user proved lately who they are, and how they prove it again.

Begin with `step_up.py`. `freshness.py` decides how long an authentication counts as recent,
independent of clock changes.

May import: accounts, factors, sessions, storage.
"""
