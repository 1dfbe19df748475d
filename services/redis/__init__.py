"""Redis as a store of short-lived keys, behind a port, and the connections to its deployments.

Begin with `store.py`, the port. Next to it are its implementations for Redis, Redis Cluster and a
single process.

May import: no other wing.
"""
