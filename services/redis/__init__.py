"""Redis as a store of short-lived keys and as a bus between nodes, each behind a port.

Begin with `store.py` and `bus.py`, the ports. Next to them are their implementations for Redis,
Redis Cluster and a single process.

May import: no other wing.
"""
