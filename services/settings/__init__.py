"""The settings of an installation: environment variables and flags, read once at start.

Begin with `settings.py`. `table.py` has a row for each setting, `values.py` the types of values.
`providers.py` reads the settings of OAuth providers, `generated_keys.py` generates missing keys.

May import: redis.
"""
