"""What backends of one's own build on: who calls them.

Begin with `introspection.py` (ask Usher) and `app_tokens.py` (check offline).

May import: sessions, storage.
"""
