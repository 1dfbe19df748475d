"""Step-up: whether a user has authenticated recently, and how they do so again.

Begin with `step_up.py`. `freshness.py` decides how long an authentication counts as recent,
independent of clock changes.

May import: accounts, factors, sessions, storage.
"""
