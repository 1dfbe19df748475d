"""Who may open an account: SIGNUP, EMAIL_DOMAINS, invitations, and proven addresses.

Begin with `registration.py`, which every way to sign up asks. `invitations.py` creates invitations,
`handovers.py` gives an account to the owner of its address.

May import: limits, sessions, storage.
"""
