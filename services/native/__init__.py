"""Sign-in of native apps through the system's browser (RFC 8252, RFC 7636).

Begin with `requests.py`, which validates the app's request and its redirect URI, then `codes.py`,
which exchanges the one-time code for the app's login session.

May import: limits, sessions, storage.
"""
