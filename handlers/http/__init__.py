"""The HTTP calls and the pages.

Each file has the calls of one subject, in the order of their paths. `handlers/routes.py` lists
them all.

May import: websocket.
"""
