"""The limits of one socket, user or address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from services.settings import values
from services.settings.row import Setting


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit, with its default. A field is the setting's name in lower case.

    Attributes:
        message_rate: frames a second of one socket; four times as many at once.
        max_sockets_per_user: at one time, on all nodes.
        max_unjoined_per_address: connections at one time, to one node.
        max_channels_per_owner: that somebody who is no administrator may own.
        max_memberships_given: standing ones, given by somebody who is no administrator.
        max_memberships_given_to_one: of these, to one and the same user.
    """

    message_rate: int = 50
    max_sockets_per_user: int = 200
    max_unjoined_per_address: int = 500
    max_channels_per_owner: int = 100
    max_memberships_given: int = 5000
    max_memberships_given_to_one: int = 50


MEANINGS = {
    "message_rate": "frames a second that one socket may send, and four times as many at once",
    "max_sockets_per_user": "sockets that one user may have open, on all nodes",
    "max_unjoined_per_address": "connections of one address (IPv6: /64) that have not joined",
    "max_channels_per_owner": "channels that one user may own; administrators: any number",
    "max_memberships_given": "memberships that one user may have given; administrators: any number",
    "max_memberships_given_to_one": "memberships of these that one and the same user may have",
}
"""For --help and the README."""

MOST = 1_000_000

LIMIT_SETTINGS: tuple[Setting[Any], ...] = tuple(
    Setting(name.upper(), values.count(1, MOST), str(getattr(Limits(), name)), meaning)
    for name, meaning in MEANINGS.items()
)


def read_limits(value: Callable[[Setting[Any]], Any]) -> dict[str, Any]:
    """The limits as they are set, by field.

    Args:
        value: gives what is set for a row of the table.
    """
    return {row.name.lower(): value(row) for row in LIMIT_SETTINGS}
