"""Sign-in with OAuth 2.0 and OpenID Connect providers, linked accounts, and provider tokens.

Begin with `flow.py`, the sign-in from the redirect to the callback. `registry.py` holds the
providers, and services/oauth/ communicates with each.

May import: accounts, limits, native, oauth, registration, sessions, settings, storage.
"""
