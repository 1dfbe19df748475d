"""What `server.py COMMAND` does, beside a running server or without one.

Begin with `keys.py` and `users.py`. What there is stands in `services/settings/command_line.py`.

May import: accounts, backends, providers, sessions, settings, storage.
"""
