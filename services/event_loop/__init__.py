"""Work on the event loop: whose turn it is, what runs in the background, whether time passes.

Begin with `background.py`, the loops that survive their errors, and `fair_queue.py`, which shares
a bounded number of places between callers.

May import: no other wing.
"""
