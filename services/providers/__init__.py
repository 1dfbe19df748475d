"""Signing in with OAuth 2.0 and OpenID Connect providers, linked accounts, and provider tokens.

Begin with `flow.py`, the way from the click to the way back; `registry.py` has the providers, and
services/oauth/ speaks with each.

May import: accounts, limits, oauth, sessions, settings, storage.
"""
