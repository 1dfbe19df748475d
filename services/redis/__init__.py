"""Redis as a store of short-lived keys and as a bus between nodes, each behind a port.

Begin with `store.py` and `bus.py`, the ports. Their implementations for Redis, Redis Cluster and a
single process stand beside them.

May import: no other wing.
"""
