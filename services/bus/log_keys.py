"""The names of a room's log, and of its publish/subscribe channel, in Redis."""

from __future__ import annotations

EPOCH_KEY = "usher:{nodes}:epoch"
"""A random value stored with the logs. If it differs, every log was lost and started again."""
EPOCH_MS = 7 * 24 * 3_600_000


def log_key(room: str) -> str:
    """The stream that is a room's log."""
    return f"usher:{{{room}}}:log"


def count_key(room: str) -> str:
    """The counter of messages ever appended to the room's log."""
    return f"usher:{{{room}}}:count"


def sender_key(room: str, sender: str) -> str:
    """The list of the ids of one sender's latest messages."""
    return f"usher:{{{room}}}:by:{sender}"


def large_key(room: str, sender: str) -> str:
    """The stream of one sender's latest large messages: their ids and sizes."""
    return f"usher:{{{room}}}:large:{sender}"


def freed_key(room: str, sender: str) -> str:
    """Bytes of one sender's removed messages that the sender's next ones may take, while Redis is
    nearly full."""
    return f"usher:{{{room}}}:freed:{sender}"


def touch_key(room: str) -> str:
    """A key written to check that Redis accepts writes to the room's log, in the same slot."""
    return f"usher:{{{room}}}:touched"


def channel(room: str) -> str:
    """The publish/subscribe channel of a room."""
    return f"usher:{{{room}}}:said"
