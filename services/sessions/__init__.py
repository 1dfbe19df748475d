"""Login sessions, their credentials (access tokens, refresh tokens, tickets), and revocation.

Begin with `admission.py`, which maps a credential to an identity, and `revocations.py`, which ends
sessions and closes their sockets. `control.py` notifies the other nodes.

May import: grants, limits, redis, sockets, storage, websocket.
"""
