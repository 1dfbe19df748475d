"""The reference that a running server shows: `/docs`, `/openapi.json`, `/asyncapi.json`.

Begin with `openapi.py` and `asyncapi.py`: both are made from the routes and message types.

May import: http, websocket.
"""
