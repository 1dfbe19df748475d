"""Speak HTTP and WebSocket, and nothing else: parse, call one service, answer.

`routes.py` lists every route. `base.py` is what all HTTP calls share, `operations.py` how a call is
described, `problems.py` how it is refused, `cookies.py` which cookies there are.
"""
