"""The socket at `/ws`: the opening handshake, client messages, and replies.

Begin with `upgrade.py` and `socket.py`. `socket_identity.py` handles joining and expiry,
`room_events.py` the events of rooms, with the rights of `room_rights.py`.

May import: no other wing.
"""
