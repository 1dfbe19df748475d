"""Calls with links in mails: forgotten passwords, and confirmed, changed and restored addresses."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.errors import (
    EmailDomainRefused,
    LinkRefused,
    OriginRefused,
    RateLimited,
    ReauthenticationNeeded,
    Unauthenticated,
    WrongPassword,
)


class Address(msgspec.Struct):
    email: str


class MyAddress(msgspec.Struct):
    """`email`: omitted by a signed-in user, for their own address."""

    email: str | None = None


class Link(msgspec.Struct):
    """`token`: the token after `#token=` in the link."""

    token: str


class Confirmation(Link):
    """`password`: of the account, if the caller is not signed in to it."""

    password: str | None = None


class HandedOver(msgspec.Struct, frozen=True):
    """The account was created by somebody who did not confirm the address, and now belongs to the
    caller. `set_password_url`: where the caller sets a password."""

    set_password_url: str


class ForgotHandler(ApiHandler):
    @operation(
        "Request a mail with a link that sets a new password. The response and its time are the "
        "same for every address.",
        access="anyone",
        body=Address,
        status=204,
        errors=(RateLimited,),
    )
    async def post(self, body: Address) -> None:
        device = self.device()
        await self.services.recovery.forgotten.ask(body.email, device.ip, device.kept)


class EmailHandler(ApiHandler):
    @operation(
        "Request a change of e-mail address: the new one gets a mail with a link, the current one "
        "a notice. The response does not reveal whether another account has it.",
        body=Address,
        status=204,
        errors=(EmailDomainRefused, RateLimited),
        audit="email.change_asked",
        step_up=True,
    )
    async def post(self, body: Address) -> None:
        changes = self.services.recovery.changes
        await changes.ask(self.identity.user_id, body.email, self.address().ip)


class EmailConfirmHandler(ApiHandler):
    @operation(
        "Confirm an e-mail address with the link in a mail. A caller who is not signed in to the "
        "account sends its password. Without one, an unconfirmed account is handed over to the "
        "caller, and the response has the URL where they set a password.",
        access="anyone",
        body=Confirmation,
        status=204,
        ok_answer=HandedOver,
        errors=(LinkRefused, WrongPassword, ReauthenticationNeeded, RateLimited),
    )
    async def post(self, body: Confirmation) -> HandedOver | None:
        user_id = await self._signed_in()
        confirmations, ip = self.services.recovery.confirmations, self.address().ip
        done = await confirmations.use(body.token, ip, user_id, body.password)
        kind = "email.verified" if done.purpose == "verify" else "email.changed"
        self.services.audit.record(kind, subject=done.user_id, actor=done.user_id)
        link = done.set_password
        return None if link is None else HandedOver(link.reveal())

    async def _signed_in(self) -> str:
        """The account that the caller is signed in to; empty for none."""
        with suppress(Unauthenticated, OriginRefused):
            claims = self.services.admission.verify(self.access_token())
            return (await self.services.admission.identify(claims)).user_id
        return ""


class EmailVerifyHandler(ApiHandler):
    @operation(
        "Request the mail that confirms an e-mail address again. The response and its time are the "
        "same for every address.",
        access="anyone",
        body=MyAddress,
        status=204,
        errors=(Unauthenticated, RateLimited),
    )
    async def post(self, body: MyAddress) -> None:
        email = body.email
        if email is None:
            claims = self.services.admission.verify(self.access_token())
            identity = await self.services.admission.identify(claims)
            email = (await self.services.accounts.profile(identity.user_id)).email
        await self.services.recovery.verification.ask(email, self.address().ip)


class EmailUndoHandler(ApiHandler):
    @operation(
        "Restore the former e-mail address of an account, with the link in the notice of the "
        "change. Its password and all other credentials are removed, its login sessions end, and "
        "a mail with a link that sets a new password is sent to the address.",
        access="anyone",
        body=Link,
        status=204,
        errors=(LinkRefused, RateLimited),
    )
    async def post(self, body: Link) -> None:
        user_id = await self.services.recovery.changes.undo(body.token, self.address().ip)
        self.services.audit.record("email.restored", subject=user_id, actor=user_id)
