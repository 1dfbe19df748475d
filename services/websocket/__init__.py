"""RFC 6455 on one connection, and the messages of Usher's subprotocol, without users or rooms.

Begin with `connection.py`. `frames.py` reads and writes frames, `protocol.py` has the message types
and close codes, `listener.py` accepts TCP connections.

May import: no other wing.
"""
