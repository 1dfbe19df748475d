"""Second factors and passkeys: set up, proven, and taken away.

Begin with `factors.py`.

May import: accounts, limits, sessions, storage.
"""
