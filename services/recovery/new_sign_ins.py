"""Notifies the owner of an account by mail of sign-ins on unknown devices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import peewee

from models.known_network import KnownNetwork
from models.user import User
from services.accounts.devices import Devices
from services.limits.networks import network_of
from services.mail_outbox import Mails
from services.recovery.verification import Mode
from services.sessions.session_views import Device

PROGRAMS = ("Edg/", "OPR/", "Firefox/", "Chrome/", "Safari/", "curl/")
NAMES = ("Edge", "Opera", "Firefox", "Chrome", "Safari", "curl")
SYSTEMS = ("Windows", "Android", "iPhone", "iPad", "Mac OS X", "CrOS", "Linux")


class NewSignIns:
    """Writes the mails, in the transaction of the sign-in.

    Args:
        mode: EMAIL_VERIFICATION. Unless it is `off`, nothing is sent to an unverified address,
            which may belong to another person.
        clock: epoch seconds.
    """

    def __init__(
        self, devices: Devices, mails: Mails, mode: Mode, clock: Callable[[], float]
    ) -> None:
        self._devices, self._mails = devices, mails
        self._mode, self._clock = mode, clock

    def notice(self, db: peewee.Database, user: User, device: Device) -> None:
        """Write a mail if neither the device nor its network has signed in to the account before.
        Call it before the network is recorded."""
        if not (user.email_verified or self._mode == "off"):
            return
        if self._devices.recognise(device.kept, user.email) is not None:
            return
        mine = KnownNetwork.user == user.id
        known: list[str] = [
            row.network for row in KnownNetwork.select(KnownNetwork.network).where(mine).execute(db)
        ]
        if not known or network_of(device.ip) in known:
            return
        when = dt.datetime.fromtimestamp(self._clock(), dt.timezone.utc)
        values = {"device": described(device.description), "time": f"{when:%Y-%m-%d %H:%M} UTC"}
        self._mails.enqueue(db, "new_sign_in", user.email, values)


def described(agent: str) -> str:
    """Describe a User-Agent in fixed words, because the client can send any text."""
    named = next(
        (name for mark, name in zip(PROGRAMS, NAMES, strict=True) if mark in agent), "a program"
    )
    system = next((name for name in SYSTEMS if name in agent), "")
    return f"{named} on {system}" if system else named
