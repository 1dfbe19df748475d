"""Limits the mails that somebody asks for."""

from __future__ import annotations

from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of
from services.mail_outbox import AskedKind


class MailLimits:
    """Counts mails for the address asked from, and for the mailbox."""

    def __init__(self, limits: HourlyLimits) -> None:
        self._limits = limits

    async def take(self, ip: str, mailbox: str, kind: AskedKind, is_known: bool = False) -> bool:
        """Count a mail.

        Args:
            ip: the client's address.
            mailbox: the normalised e-mail address.
            kind: what is asked for.
            is_known: whether it is asked for on a device that has signed in to the account before.
                These have a count of their own, which strangers cannot use up.

        Returns:
            False if the mailbox has had enough. The response must not tell, because somebody else
            may have caused them.

        Raises:
            RateLimited: too many were asked for from this address.
        """
        (await self._limits.take((self._limits.of.mails, network_of(ip)))).require()
        return await self.take_mailbox(mailbox, kind, is_known)

    async def take_mailbox(self, mailbox: str, kind: AskedKind, is_known: bool = False) -> bool:
        """Count a mail for its mailbox alone. Returns as `take`.

        Each kind has a count of its own. Otherwise a stranger who asks for mails that are not even
        sent, such as the confirmation of a confirmed address, could keep the owner from a reset.
        """
        key = f"{kind}\0{'known' if is_known else ''}\0{mailbox}"
        return (await self._limits.take((self._limits.of.mailbox, key))).waits[0] is None
