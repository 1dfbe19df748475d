"""Step-up: the signed-in user proves again who they are."""

from __future__ import annotations

import msgspec

from handlers.http.auth import BrowserSignIn, NativeSignIn, SignInHandler
from handlers.operations import operation
from services.errors import RateLimited, StepUpNeeded, Unauthenticated, WrongPassword


class Proofs(msgspec.Struct):
    """`password`, or with a second factor `code`: of the authenticator app, or a recovery code."""

    password: str | None = None
    code: str | None = None


class StepUpHandler(SignInHandler):
    signs_in = True

    @operation(
        "Prove again who you are (RFC 9470). The login session stays; its new tokens have a new "
        "`auth_time` and `acr`. With a second factor a code is needed, and is enough.",
        body=Proofs,
        answer=BrowserSignIn | NativeSignIn,
        errors=(StepUpNeeded, WrongPassword, RateLimited, Unauthenticated),
        audit="session.stepped_up",
    )
    async def post(self, body: Proofs) -> BrowserSignIn | NativeSignIn:
        result = await self.services.step_up.prove(self.identity, body.password, body.code)
        # Who came with a bearer token cannot read cookies, or does not want any.
        is_native = "Authorization" in self.request.headers
        return self.with_tokens(result, "native" if is_native else "browser")
