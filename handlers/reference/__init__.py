"""The API reference of a running server: `/docs`, `/openapi.json`, `/asyncapi.json`.

Begin with `openapi.py` and `asyncapi.py`. Both are generated from the routes and message types.

May import: http, websocket.
"""
