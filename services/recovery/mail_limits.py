"""Limits the mails that somebody asks for."""

from __future__ import annotations

from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of


class MailLimits:
    """Counts mails for the address asked from, and for the mailbox."""

    def __init__(self, limits: HourlyLimits) -> None:
        self._limits = limits

    async def take(self, ip: str, mailbox: str) -> bool:
        """Count a mail.

        Args:
            ip: the client's address.
            mailbox: the normalised e-mail address.

        Returns:
            False if the mailbox has had enough. The response must not tell, because somebody else
            may have caused them.

        Raises:
            RateLimited: too many were asked for from this address.
        """
        (await self._limits.take((self._limits.of.mails, network_of(ip)))).require()
        return await self.take_mailbox(mailbox)

    async def take_mailbox(self, mailbox: str) -> bool:
        """Count a mail for its mailbox alone. Returns as `take`."""
        return (await self._limits.take((self._limits.of.mailbox, mailbox))).waits[0] is None
