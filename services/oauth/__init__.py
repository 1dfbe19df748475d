"""OAuth 2.0 and OpenID Connect as spoken with one provider. Knows no account of Usher's.

Begin with `provider.py`, what a provider is asked for; `oidc.py` and `github.py` are its two forms,
`http.py` makes the calls, `id_tokens.py` checks what comes back, `errors.py` has the refusals.

May import: accounts, settings.
"""
