"""The composition root: creates the services, connects them, and starts and stops them.

Begin with `container.py`, which connects the services. `infrastructure.py` opens the database and
Redis, `lifecycle.py` starts and stops the loops. No wing imports this one, and it may import all.
"""
