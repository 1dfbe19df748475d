"""Webhooks: deliver events to other systems, at least once and in order for each subject.

Begin with `outbox.py`, which writes events in the transaction of the change, and `dispatcher.py`,
which delivers them. docs/webhooks.md describes them for receivers.

May import: storage.
"""
