"""The database: opening, queries, migrations, and encryption at rest.

Begin with `database.py`. Tables are in models/, migrations in models/migrations/.

May import: no other wing.
"""
