"""Calls of users about their own account, except signing in and out.

Begin with `step_up.py`: sensitive calls require a recent authentication.

May import: http.
"""
