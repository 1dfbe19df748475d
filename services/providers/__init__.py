"""Signing in at OAuth 2.0 and OpenID Connect providers, linked accounts, and provider tokens.

Begin with `flow.py`, the way from the click to the way back; `registry.py` has the providers,
`oidc.py` and `github.py` what is different about each kind.

May import: accounts, sessions, settings, storage.
"""
