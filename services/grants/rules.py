"""The rules of rights in channels: which right a user has, and since when.

A right has several sources: owner, administrator, member, a role that the channel admits, or a
public channel. The highest right counts. `since` is the earliest source that still holds; messages
before it are not shown.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, cast

import msgspec

RightName = Literal["read", "write", "manage"]

BACKEND = "*backend"
"""Used as user id for a backend that may manage all channels. No account has this id."""
ADMINISTRATORS = "*admins"
"""The share of channels that an administrator or a backend has opened. No account has this id."""
MAX_ROOMS = 1000
"""Channels that `grants_of` gives: a socket is joined to no more of them by itself."""


class Right(enum.IntEnum):
    """A right in a channel. Each right includes those before it."""

    READ = 1
    WRITE = 2
    MANAGE = 3

    @property
    def word(self) -> RightName:
        """Its name in the protocol and the database."""
        return cast("RightName", self.name.lower())

    @classmethod
    def of(cls, word: str) -> Right:
        """The right with this name in the protocol or the database."""
        return cls[word.upper()]


class Grant(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A right in one channel.

    Attributes:
        since: epoch seconds since when the user could read the channel without interruption.
        step_up: the channel's room also needs a fresh proof of who the user is.
    """

    right: Right
    since: float
    step_up: bool = False


class Reader(NamedTuple):
    """The user whose rights are computed."""

    id: str
    role: str
    role_since: float
    created_at: float


class OpenChannel(NamedTuple):
    """The access that a channel gives to roles and everybody. `roles`: right and since, by role.
    `opened_by`: the share that it counts in, see `Channel`."""

    id: str
    created_at: float
    public_since: float | None
    roles: Mapping[str, tuple[str, float]]
    step_up: bool = False
    opened_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is open to a role or to everybody."""
        return bool(self.roles) or self.public_since is not None


class Found(NamedTuple):
    """A channel, with the rows about one reader."""

    id: str
    name: str
    private: bool
    owner_id: str | None
    created_at: float
    public_since: float | None
    step_up: bool
    member_right: str | None
    member_since: float | None
    role_right: str | None
    role_since: float | None


def grant(channel: Found, reader: Reader) -> Grant | None:
    """The right of a reader in a channel, or None."""
    sources = list(_sources(channel, reader))
    if not sources:
        return None
    right, since = max(s.right for s in sources), min(s.since for s in sources)
    return Grant(right, since, channel.step_up)


def _sources(channel: Found, reader: Reader) -> Iterator[Grant]:
    if channel.owner_id == reader.id:
        yield Grant(Right.MANAGE, channel.created_at)
    if reader.role == "admin":
        yield Grant(Right.MANAGE, max(channel.created_at, reader.role_since))
    if channel.member_right is not None and channel.member_since is not None:
        yield Grant(Right.of(channel.member_right), channel.member_since)
    if channel.role_right is not None and channel.role_since is not None:
        # A user who got the role later has the right since then.
        yield Grant(Right.of(channel.role_right), max(channel.role_since, reader.role_since))
    if channel.public_since is not None:
        yield Grant(Right.WRITE, max(channel.public_since, reader.created_at))


def merge(
    reader: Reader,
    personal: Mapping[str, Grant],
    opened: Mapping[str, OpenChannel],
    joined: Mapping[str, OpenChannel],
) -> dict[str, Grant]:
    """Merge personal grants with those of open channels, up to `MAX_ROOMS` channels.

    Args:
        opened: what may give more in a channel of `personal`.
        joined: channels that are added, in this order.
    """
    granted = dict(personal)
    for channel_id in personal.keys() & opened.keys():
        also = _as_one_of_many(opened[channel_id], reader)
        if also is not None:
            had = granted[channel_id]
            right, since = max(had.right, also.right), min(had.since, also.since)
            granted[channel_id] = Grant(right, since, also.step_up)
    for channel_id, channel in joined.items():
        if len(granted) >= MAX_ROOMS:
            break
        if channel_id not in granted:
            also = _as_one_of_many(channel, reader)
            if also is not None:
                granted[channel_id] = also
    return granted


def _as_one_of_many(channel: OpenChannel, reader: Reader) -> Grant | None:
    right, since = channel.roles.get(reader.role, (None, None))
    at, since_when = channel.created_at, channel.public_since
    shown = (channel.id, "", False, None, at, since_when, channel.step_up)
    if right is None and channel.public_since is None:
        return None
    return grant(Found(*shown, None, None, right, since), reader)
