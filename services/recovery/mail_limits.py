"""Limits the mails that clients can request."""

from __future__ import annotations

from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of
from services.mail_outbox import AskedKind


class MailLimits:
    """Counts requested mails per client address and per mailbox."""

    def __init__(self, limits: HourlyLimits) -> None:
        self._limits = limits

    async def take(self, ip: str, mailbox: str, kind: AskedKind, is_known: bool = False) -> bool:
        """Count a mail.

        Args:
            ip: the client's address.
            mailbox: the normalised e-mail address.
            kind: the kind of mail.
            is_known: whether the request comes from a device that has signed in to the account
                before. These have a separate count, which other clients cannot use up.

        Returns:
            False if the mailbox has reached its limit. The response must not reveal that, because
            somebody else may have caused the mails.

        Raises:
            RateLimited: too many were requested from this address.
        """
        (await self._limits.take((self._limits.of.mails, network_of(ip)))).require()
        return await self.take_mailbox(mailbox, kind, is_known)

    async def take_mailbox(self, mailbox: str, kind: AskedKind, is_known: bool = False) -> bool:
        """Count a mail only for its mailbox. Returns as `take`.

        Each kind has a separate count. Otherwise an attacker could prevent the owner's reset by
        requesting mails that are not even sent, such as the confirmation of a confirmed address.
        """
        key = f"{kind}\0{'known' if is_known else ''}\0{mailbox}"
        return (await self._limits.take((self._limits.of.mailbox, key))).waits[0] is None
