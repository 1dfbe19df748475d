"""Rooms: who may enter them, who is present, and messages.

Begin with `rooms.py`, the rooms of this node; `missed_messages.py` reads what they have missed.
`channels.py` grants rights, `membership.py` has the rooms of one socket, and `presence.py` tracks
who is present on all nodes.

May import: accounts, bus, grants, redis, sessions, sockets, storage, websocket.
"""
