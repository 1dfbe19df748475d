"""Login sessions, their credentials (access tokens, tickets), and revocation.

Begin with `admission.py`, which maps a credential to an identity, and `revocations.py`, which
revokes access and closes sockets. `login_sessions.py` opens login sessions, `session_ends.py` ends
them, and `control.py` notifies the other nodes.

May import: bus, grants, limits, redis, sockets, storage, websocket.
"""
