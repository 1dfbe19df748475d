"""The audit trail: who did what, to whom, from where, in which session, and why.

Begin with `trail.py`. Every entry is a line of the log; what matters is a row too.

May import: storage.
"""
