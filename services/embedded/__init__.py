"""The Redis server that comes with Usher, and the programs that must not outlive it.

Begin with `redis_server.py`, which runs it; `binary.py` finds the program and looks whether it can
read what lies in its folder.

May import: no other wing.
"""
