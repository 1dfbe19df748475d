"""User accounts, passwords, and API keys of backends.

Begin with `accounts.py`: sign-up, sign-in, password change, and administration.

May import: limits, registration, sessions, storage.
"""
