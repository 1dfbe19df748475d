"""What one stranger may take of what everybody needs: so many in an hour, and no more than a share.

`hourly.py` counts in Redis for all nodes, `windows.py` in this process while Redis is away.
`networks.py` says what counts as one address.
"""
