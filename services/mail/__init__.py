"""E-mails to users: written in the transaction of what they report, sent in the background, once.

Begin with `outbox.py`, which writes them, and `dispatcher.py`, which sends them. docs/mail.md
describes them for operators. Other wings know services/mail_outbox.py alone.

May import: limits, settings, storage.
"""
