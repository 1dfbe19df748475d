"""HTTP and WebSocket: a handler parses a request, calls one service, and sends the response.

`routes.py` lists every route. `base.py` has the base class of every HTTP handler, `api.py`
that of JSON calls, `operations.py` the description of a call, `problems.py` error responses, and
`cookies.py` the cookies.
"""
