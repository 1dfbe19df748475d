"""What users do with their own account, beside signing in and out.

Begin with `step_up.py`: acts that matter ask for a fresh proof of who the user is.

May import: http.
"""
