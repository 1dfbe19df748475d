"""The commands of `server.py`, which work with or without a running server.

Begin with `keys.py` and `users.py`. `services/settings/command_line.py` lists the commands.

May import: accounts, backends, providers, registration, sessions, settings, storage.
"""
