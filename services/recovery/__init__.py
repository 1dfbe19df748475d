"""Accounts that people can keep: forgotten passwords, and proven, changed and restored addresses.

Begin with `forgotten.py`, the shortest of them. What is asked for by somebody who must not learn
whether an address has an account is decided in the background (`services/mail_outbox.py`).

May import: accounts, limits, registration, sessions, storage.
"""
