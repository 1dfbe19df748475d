"""Refresh tokens: each works once, and a copied one ends its login session.

Begin with `rotation.py`, which exchanges a refresh token for new tokens. `steps.py` tells a copied
token from one whose response was lost.

May import: limits, sessions, storage.
"""
