"""The names of rooms, as clients see them."""

from __future__ import annotations

USER, CHANNEL = "user:", "channel:"


def user_room(user_id: str) -> str:
    """The room that all sockets of a user share."""
    return USER + user_id


def channel_room(channel_id: str) -> str:
    """The room of a channel."""
    return CHANNEL + channel_id
