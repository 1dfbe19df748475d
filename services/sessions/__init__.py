"""Login sessions and what proves them: access tokens, refresh tokens, tickets. Revocation.

Begin with `admission.py`, which says who a credential belongs to, and `revocations.py`, which ends
what it names; `control.py` tells the other nodes.

May import: grants, limits, redis, sockets, storage, websocket.
"""
