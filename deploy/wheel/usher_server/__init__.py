"""Usher as it is installed from its wheel: `usher`, or `python -m usher_server`.

The server itself is in the folder `app`, laid out as in the repository. Its packages (`handlers`,
`services`, `models`) are not importable from outside: only the process of `usher` has that folder
on its path. docs/adr/0010-releases.md says why.
"""
