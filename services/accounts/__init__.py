"""People, their passwords, and API keys of backends.

Begin with `accounts.py`: sign-up, sign-in, password change, and what an administrator may do.

May import: limits, sessions, storage.
"""
