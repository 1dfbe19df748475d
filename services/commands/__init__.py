"""The commands of `server.py`, which work beside a running server or without one.

Begin with `keys.py` and `users.py`. `services/settings/command_line.py` lists the commands.

May import: accounts, backends, providers, sessions, settings, storage.
"""
