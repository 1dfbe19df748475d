"""Webhooks: tells other systems what happened, at least once and in order for one subject.

Begin with `outbox.py`, which writes events in the transaction of what they tell, and
`dispatcher.py`, which delivers them. docs/webhooks.md is what a receiver has to know.

May import: storage.
"""
