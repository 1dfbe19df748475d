"""The embedded Redis server, and child processes that must not outlive Usher.

Begin with `redis_server.py`, which runs it. `binary.py` finds the program and checks whether it can
read the files in its folder.

May import: no other wing.
"""
