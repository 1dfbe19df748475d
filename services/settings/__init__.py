"""What an installation is told: environment variables and flags, read once when it starts.

Begin with `settings.py`; `table.py` has a row for each setting, `values.py` what each may be.
`providers.py` reads the settings of OAuth providers, `generated_keys.py` makes what is not given.

May import: redis.
"""
