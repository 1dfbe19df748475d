"""The settings that limit what one socket, user or address may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from services.settings import values
from services.settings.row import Setting


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit, with its default. A field is the setting's name in lower case.

    Attributes:
        message_rate: frames per second that a socket may send; a burst may be four times as many.
        max_sockets_per_user: sockets that a user may have open at one time, on all nodes.
        max_unjoined_per_address: connections of an address that have not joined, on all nodes.
        max_channels_per_owner: channels that a user may own; administrators have no limit.
        max_open_channels_per_owner: channels open to everybody or to a role that a user may own;
            administrators have no limit.
        max_joined_open_channels: channels that users opened and that a socket joins by itself;
            those opened by administrators have no limit.
        max_memberships_given: memberships that a user may have granted; administrators have no
            limit.
        max_memberships_given_to_one: memberships of these that the same user may hold.
    """

    message_rate: int = 50
    max_sockets_per_user: int = 200
    max_unjoined_per_address: int = 500
    max_channels_per_owner: int = 100
    max_open_channels_per_owner: int = 20
    max_joined_open_channels: int = 50
    max_memberships_given: int = 5000
    max_memberships_given_to_one: int = 50


MEANINGS = {
    "message_rate": "frames per second that a socket may send; a burst may be four times as many",
    "max_sockets_per_user": "sockets that a user may have open, on all nodes",
    "max_unjoined_per_address": "connections of an address (IPv6: /64) that have not joined",
    "max_channels_per_owner": "channels that a user may own; administrators: any number",
    "max_open_channels_per_owner": "channels open to everybody or to a role that a user may own, "
    "because sockets join them; administrators: any number",
    "max_joined_open_channels": "channels opened by users that a socket joins by itself: each "
    "owner's first one before any owner's second; it enters others with `join`. Those opened by "
    "administrators do not count",
    "max_memberships_given": "memberships that a user may have granted; administrators: any number",
    "max_memberships_given_to_one": "memberships of these that the same user may hold",
}
"""For --help and the README."""

MOST = 1_000_000
MAY_BE_NONE = frozenset(("max_joined_open_channels",))

LIMIT_SETTINGS: tuple[Setting[Any], ...] = tuple(
    Setting(
        name.upper(),
        values.count(0 if name in MAY_BE_NONE else 1, MOST),
        str(getattr(Limits(), name)),
        meaning,
    )
    for name, meaning in MEANINGS.items()
)


def read_limits(value: Callable[[Setting[Any]], Any]) -> dict[str, Any]:
    """Read the limits, as keyword arguments of `Limits`.

    Args:
        value: reads the value of one setting.
    """
    return {row.name.lower(): value(row) for row in LIMIT_SETTINGS}
