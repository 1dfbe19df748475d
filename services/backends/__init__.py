"""What backends of one's own build on: who calls them, and pushing into rooms.

Begin with `introspection.py` (ask Usher), `app_tokens.py` (check offline) and `publishing.py`.

May import: rooms, sessions, storage.
"""
