"""User accounts, passwords, and API keys of backends.

Begin with `accounts.py`: sign-up, sign-in and password change. `administration.py` lists, changes,
disables and deletes accounts.

May import: limits, registration, sessions, storage.
"""
