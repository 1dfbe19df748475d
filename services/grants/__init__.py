"""Grants: who may do what in a channel, and since when.

Begin with `rules.py`. `queries.py` reads grants from the database; `shared.py` keeps the open
channels in the memory of each node.

May import: storage.
"""
