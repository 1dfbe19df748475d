"""Rate limits, so that one client cannot exhaust what all clients share.

Begin with `hourly.py`, which counts in Redis for all nodes. `windows.py` counts in this process
while Redis is unavailable. `networks.py` defines what counts as one address.

May import: redis.
"""
