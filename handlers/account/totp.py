"""The authenticator app of the signed-in user (RFC 6238), and recovery codes."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import segno

from handlers.api import ApiHandler
from handlers.operations import operation
from services.errors import FactorInUse, NotFound, RateLimited, Unavailable, WrongCode
from services.factors.factors import MAX_CODE_LENGTH, TotpState

QR_SCALE = 5
"""SVG units per module, the smallest square of a QR code."""


class NewTotp(msgspec.Struct, frozen=True):
    """What an authenticator app needs, shown only once. `secret`: Base32. `otpauth_url`: the same
    as a URL. `qr_svg`: the URL as a QR code, an SVG element without scripts or styles."""

    secret: str
    otpauth_url: str
    qr_svg: str


class Code(msgspec.Struct):
    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE_LENGTH)]


class RecoveryCodes(msgspec.Struct, frozen=True):
    """Each works once, instead of a code of the app. They are shown only once."""

    recovery_codes: tuple[str, ...]


class TotpHandler(ApiHandler):
    @operation("Whether you have an authenticator app as second factor.", answer=TotpState)
    async def get(self) -> TotpState:
        return await self.services.factors.totp_state(self.identity.user_id)

    @operation(
        "Get a secret for an authenticator app. Its first code activates it, see "
        "`/api/auth/totp/confirm`.",
        status=201,
        step_up=True,
        answer=NewTotp,
        errors=(FactorInUse, Unavailable),
    )
    async def post(self) -> NewTotp:
        made = await self.services.factors.begin_totp(self.identity.user_id)
        url = made.url.reveal()
        # In a thread: 5 ms of Python.
        return NewTotp(made.secret.reveal(), url, await asyncio.to_thread(qr_svg, url))

    @operation(
        "Remove your authenticator app and recovery codes: a password alone is enough again.",
        status=204,
        step_up=True,
        errors=(NotFound,),
        audit="factor.removed",
    )
    async def delete(self) -> None:
        await self.services.factors.remove_totp(self.identity.user_id)


class TotpConfirmHandler(ApiHandler):
    @operation(
        "Activate the authenticator app with its first code, and get ten recovery codes.",
        body=Code,
        step_up=True,
        answer=RecoveryCodes,
        errors=(WrongCode, RateLimited, Unavailable),
        audit="factor.added",
    )
    async def post(self, body: Code) -> RecoveryCodes:
        claims = self.identity.claims
        codes = await self.services.factors.confirm_totp(claims.sub, claims.sid, body.code)
        return RecoveryCodes(codes)


class RecoveryCodesHandler(ApiHandler):
    @operation(
        "Get ten new recovery codes. The earlier ones are invalid from then on.",
        step_up=True,
        answer=RecoveryCodes,
        errors=(NotFound,),
        audit="factor.codes_made",
    )
    async def post(self) -> RecoveryCodes:
        return RecoveryCodes(await self.services.factors.new_recovery_codes(self.identity.user_id))


def qr_svg(text: str) -> str:
    """Render a text as a QR code. Its colours are fixed, because scanners need dark on light."""
    code = segno.make_qr(text)
    return str(code.svg_inline(scale=QR_SCALE, border=4, dark="#000", light="#fff", omitsize=True))
