"""The second step of a sign-in."""

from __future__ import annotations

from typing import Annotated

import msgspec

from handlers.http.auth import BrowserSignIn, Client, NativeSignIn, SignInHandler
from handlers.operations import operation
from services.errors import RateLimited, Unauthenticated, WrongFactor
from services.factors.challenges import MAX_CHALLENGE_LENGTH, CodeAnswer
from services.factors.factors import MAX_CODE_LENGTH


class SecondFactor(msgspec.Struct):
    """`challenge`: of the sign-in that asked for it. `code`: of the authenticator app, or a
    recovery code. `client`: as that sign-in had it; may be left out. `device`: as at sign-in."""

    challenge: Annotated[str, msgspec.Meta(max_length=MAX_CHALLENGE_LENGTH)]
    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE_LENGTH)]
    client: Client | None = None
    device: str = ""


class SecondFactorHandler(SignInHandler):
    signs_in = True

    @operation(
        "Complete a sign-in that asked for a second factor. A challenge lives for five minutes "
        "and five wrong answers: after `wrong_code` it lives on, after `unauthenticated` no more.",
        access="anyone",
        body=SecondFactor,
        answer=BrowserSignIn | NativeSignIn,
        errors=(Unauthenticated, WrongFactor, RateLimited),
    )
    async def post(self, body: SecondFactor) -> BrowserSignIn | NativeSignIn:
        kept = body.device or self.get_cookie(self.site.cookies.device) or ""
        device = msgspec.structs.replace(self.device(), kept=kept)
        answer = CodeAnswer(body.code, self.services.factors.use_code)
        result, client = await self.services.login_challenges.complete(
            body.challenge, answer, body.client, device
        )
        return self.signed_in(result, client)
