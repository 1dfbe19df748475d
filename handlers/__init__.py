"""Speaks HTTP and WebSocket: parse a request, call one service, answer.

`routes.py` lists every route. `base.py` holds what all HTTP handlers share, `operations.py` how a
call is described, `problems.py` error responses, and `cookies.py` the cookies.
"""
