"""Step-up: the signed-in user authenticates again."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from handlers.account.relying_party import relying_party
from handlers.http.auth import BrowserSignIn, NativeSignIn, SignInHandler
from handlers.operations import operation
from services.errors import (
    NoRelyingParty,
    PasskeyRefused,
    RateLimited,
    StepUpNeeded,
    Unauthenticated,
    WrongCode,
    WrongPassword,
)
from services.factors.factors import MAX_CODE_LENGTH


class Proofs(msgspec.Struct):
    """`password`, or with a second factor `code`: of the authenticator app, or a recovery code; or
    `credential`: of a passkey, with options of `/api/auth/passkey/options`."""

    password: str | None = None
    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE_LENGTH)] | None = None
    credential: dict[str, Any] | None = None


class StepUpHandler(SignInHandler):
    signs_in = True

    @operation(
        "Authenticate again (RFC 9470). The login session stays; its new tokens have a new "
        "`auth_time` and `acr`. With a second factor, a code is required, and is enough.",
        body=Proofs,
        answer=BrowserSignIn | NativeSignIn,
        errors=(
            StepUpNeeded,
            WrongPassword,
            WrongCode,
            PasskeyRefused,
            NoRelyingParty,
            RateLimited,
            Unauthenticated,
        ),
        audit="session.stepped_up",
    )
    async def post(self, body: Proofs) -> BrowserSignIn | NativeSignIn:
        asserted = None
        if body.credential is not None:
            party = relying_party(self)
            asserted = await self.services.passkeys.verify(party, body.credential)
        result = await self.services.step_up.prove(
            self.identity, body.password, body.code, asserted
        )
        # A client with a bearer token cannot read cookies, or does not want any.
        is_native = "Authorization" in self.request.headers
        return self.with_tokens(result, "native" if is_native else "browser")
