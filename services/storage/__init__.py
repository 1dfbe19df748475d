"""The database: how it is opened, asked and brought up to date, and what is encrypted in it.

Begin with `database.py`. Tables are in models/, migrations in models/migrations/.

May import: no other wing.
"""
