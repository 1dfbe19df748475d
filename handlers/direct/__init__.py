"""Requests that are answered without a Tornado request: those for tickets.

Begin with `direct_calls.py`, which serves their connections. `plain_call.py` recognises them, and
`direct_tickets.py` answers them.

May import: http, websocket.
"""
