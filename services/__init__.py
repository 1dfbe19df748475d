"""The rules of Usher. Nothing here speaks HTTP.

The packages are wings. The docstring of each says where to begin and which others it may import;
docs/architecture.md has a picture. Every wing may import `event_loop` and the files beside the
wings: `errors`, `claims`, `secret`, `secret_values`, `opaque`, `keyed_tokens`, `metrics`, `logs`,
`outbox`, `mail_outbox`. The package `composition` joins the wings to one server.
"""
