"""The joined sockets of this node, and their socket sessions in Redis.

Begin with `hub.py`, which finds sockets by user and login session. `session_pool.py` stores their
sessions in Redis under a lease.

May import: grants, redis, websocket.
"""
