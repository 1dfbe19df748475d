"""The socket at `/ws`: the opening handshake, the messages of clients, and their answers.

Begin with `upgrade.py` and `socket.py`; `room_events.py` has the events that concern rooms.

May import: no other wing.
"""
