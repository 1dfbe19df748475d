"""What administrators read about the installation: the live overview, one account, settings, and
providers.

Begin with `overview.py`. Changes to accounts are in handlers/http/admin.py.

May import: no other wing.
"""
