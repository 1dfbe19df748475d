"""The socket at `/ws`: the opening handshake, client messages, and replies.

Begin with `upgrade.py` and `socket.py`. `socket_identity.py` has joining and expiry,
`room_events.py` the events that concern rooms.

May import: no other wing.
"""
