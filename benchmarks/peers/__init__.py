"""Usher beside other servers that do the same job: same machine, same run, same load.

`make bench-peers` installs and measures them, docs/performance.md has the figures.
"""
