"""The socket at `/ws`: the opening handshake, client messages, and replies.

Begin with `upgrade.py` and `socket.py`. `room_events.py` has the events that concern rooms.

May import: no other wing.
"""
