"""What one stranger may take of what everybody needs: so many in an hour, and no more than a share.

Begin with `hourly.py`, which counts in Redis for all nodes; `windows.py` counts in this process
while Redis is away, and `networks.py` says what counts as one address.

May import: redis.
"""
