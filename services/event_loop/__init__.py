"""Work on the event loop: scheduling, background loops, and clocks.

Begin with `background.py`, the loops that survive their errors, and `fair_queue.py`, which shares
a limited number of slots between callers.

May import: no other wing.
"""
