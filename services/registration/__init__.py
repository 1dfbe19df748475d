"""Who may create an account: SIGNUP, EMAIL_DOMAINS, invitations, and proven addresses.

Begin with `registration.py`, which decides about every sign-up. `invitations.py` creates
invitations, `handovers.py` hands an account over to the owner of its address.

May import: limits, sessions, storage.
"""
