"""Second factors and passkeys: setting up, verifying and removing them.

Begin with `factors.py`.

May import: accounts, limits, sessions, storage.
"""
