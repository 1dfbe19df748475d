"""Account recovery: forgotten passwords, and confirmed, changed and restored addresses.

Begin with `forgotten.py`, the shortest of them. Requests by unauthenticated clients, who must not
learn whether an address has an account, are decided in the background (`services/mail_outbox.py`).

May import: accounts, limits, registration, sessions, storage.
"""
