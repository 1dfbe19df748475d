"""Services for an app's own backends: identifying callers, and publishing into rooms.

Begin with `introspection.py` (ask Usher), `app_tokens.py` (check offline) and `publishing.py`.

May import: rooms, sessions, storage.
"""
