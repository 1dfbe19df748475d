"""The second step of a sign-in."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from handlers.account.relying_party import relying_party
from handlers.api import ApiHandler
from handlers.http.auth import BrowserSignIn, Client, NativeSignIn, SignInHandler
from handlers.operations import operation
from services.errors import (
    BadRequest,
    NoRelyingParty,
    NotFound,
    PasskeyRefused,
    RateLimited,
    Unauthenticated,
    WrongFactor,
)
from services.factors.challenges import (
    MAX_CHALLENGE_LENGTH,
    Answer,
    CodeAnswer,
    PasskeyAnswer,
    WrongAnswer,
)
from services.factors.factors import MAX_CODE_LENGTH


class SecondFactor(msgspec.Struct):
    """`challenge`: from the response of the sign-in. `code`: of the authenticator app, or a
    recovery code; or `credential`: of a passkey. `client`: that of the sign-in; may be omitted.
    `device`: as at sign-in."""

    challenge: Annotated[str, msgspec.Meta(max_length=MAX_CHALLENGE_LENGTH)]
    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE_LENGTH)] | None = None
    credential: dict[str, Any] | None = None
    client: Client | None = None
    device: str = ""


class SecondFactorHandler(SignInHandler):
    signs_in = True

    @operation(
        "Complete a sign-in that needs a second factor. A challenge is valid for five minutes and "
        "five wrong answers: after `wrong_code` it stays valid, after `unauthenticated` it is not.",
        access="anyone",
        body=SecondFactor,
        answer=BrowserSignIn | NativeSignIn,
        errors=(Unauthenticated, WrongFactor, RateLimited, NoRelyingParty),
    )
    async def post(self, body: SecondFactor) -> BrowserSignIn | NativeSignIn:
        kept = body.device or self.get_cookie(self.site.cookies.device) or ""
        device = msgspec.structs.replace(self.device(), kept=kept)
        answer = await self._answer(body)
        result, client = await self.services.login_challenges.complete(
            body.challenge, answer, body.client, device
        )
        return self.signed_in(result, client)

    async def _answer(self, body: SecondFactor) -> Answer:
        """The second factor in the request. A wrong passkey counts as a wrong answer."""
        if (body.code is None) == (body.credential is None):
            raise BadRequest.of("code", "either it or a credential is needed")
        if body.code is not None:
            return CodeAnswer(body.code, self.services.factors.use_code)
        passkeys = self.services.passkeys
        try:
            asserted = await passkeys.verify(relying_party(self), body.credential or {})
        except PasskeyRefused:
            return WrongAnswer()
        return PasskeyAnswer(asserted, passkeys.use)


class UserFactorsHandler(ApiHandler):
    @operation(
        "Remove the second factors and passkeys of a user who has lost them. Their owner gets "
        "a mail.",
        access="admin",
        status=204,
        errors=(NotFound,),
        audit="factor.removed_by_admin",
    )
    async def delete(self, user_id: str) -> None:
        await self.services.factors.remove_by_admin(user_id)
