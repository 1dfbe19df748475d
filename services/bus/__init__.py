"""The bus between nodes: the logs of rooms, and messages to the nodes with a member.

Begin with `bus.py`, the port. `bus_redis.py` implements it over Redis, with the subscription in
`subscription.py`; `bus_memory.py` implements it for a single process.

May import: redis.
"""
