"""E-mails to users: written in the transaction of the change, sent once, in the background.

Begin with `outbox.py`, which writes them, and `dispatcher.py`, which sends them. docs/mail.md
describes them for operators. Other wings use only the interface in services/mail_outbox.py.

May import: limits, settings, storage.
"""
