"""Signing in an app on somebody's machine through the system's browser (RFC 8252, RFC 7636).

Begin with `requests.py`, what an app asks for and where it may be answered, then `codes.py`, the
one-time code that becomes the app's login session.

May import: limits, sessions, storage.
"""
