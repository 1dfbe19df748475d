"""The live overview for administrators: what each node does now and did in 15 minutes.

Begin with `overview.py`, which gathers the reports of all nodes. `meter.py` keeps one node's
figures in a bounded ring, and `totals.py` counts rows.

May import: redis, sockets, storage.
"""
