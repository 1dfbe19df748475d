"""RFC 6455 on one connection, and the messages of Usher's subprotocol, without users or rooms.

Begin with `connection.py`, the port, and `direct_connection.py`, which implements it on a raw
socket. `frames.py` reads and writes frames, `protocol.py` has the message types and close codes,
`listener.py` accepts TCP connections.

May import: no other wing.
"""
