"""The HTTP calls and the pages.

Each file has the calls of one subject, in the order of the paths; `routes.py`, one floor up, lists
them all.

May import: websocket.
"""
