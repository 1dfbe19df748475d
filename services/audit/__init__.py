"""The audit trail: who did what, to whom, from where, in which session, and why.

Begin with `trail.py`. Every entry is a log line; important ones are also a row in the database.

May import: storage.
"""
