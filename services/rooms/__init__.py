"""Who may be in which room, who is there, and what is said.

Begin with `rooms.py`, the rooms of this node; `channels.py` grants rights, `membership.py` has the
rooms of one socket, `presence.py` who is there on all nodes.

May import: accounts, grants, redis, sessions, sockets, storage, websocket.
"""
