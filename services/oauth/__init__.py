"""OAuth 2.0 and OpenID Connect with one provider, independent of Usher's accounts.

Begin with `provider.py`, the interface of a provider. `oidc.py` and `github.py` implement it,
`http.py` makes the calls, `id_tokens.py` verifies tokens with the checks of `token_claims.py`,
`errors.py` has the errors.

May import: registration, settings.
"""
