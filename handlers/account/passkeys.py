"""Passkeys: managing those of the signed-in user, and signing in with one."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from handlers.account.relying_party import relying_party
from handlers.api import ApiHandler
from handlers.http.auth import BrowserSignIn, Client, NativeSignIn, SignInHandler
from handlers.operations import operation
from services.errors import (
    NoRelyingParty,
    NotFound,
    PasskeyRefused,
    RateLimited,
    SecondFactorNeeded,
    TooManyPasskeys,
    Unauthenticated,
)
from services.factors.passkeys import PasskeyRow
from services.limits.networks import network_of


class PasskeyList(msgspec.Struct, frozen=True):
    items: list[PasskeyRow]


class WebAuthnOptions(msgspec.Struct, frozen=True):
    """`publicKey`: the options of `navigator.credentials`, as
    `PublicKeyCredential.parse…OptionsFromJSON` takes them."""

    public_key: Annotated[dict[str, Any], msgspec.Meta(title="publicKey")] = msgspec.field(
        name="publicKey"
    )


class NewPasskey(msgspec.Struct):
    """`credential`: the result of `navigator.credentials.create()`, by its `toJSON()`."""

    credential: dict[str, Any]
    name: str = ""


class RenamePasskey(msgspec.Struct):
    name: str


class PasskeyLogIn(msgspec.Struct):
    """`credential`: the result of `navigator.credentials.get()`, by its `toJSON()`."""

    credential: dict[str, Any]
    client: Client = "browser"


class PasskeysHandler(ApiHandler):
    @operation("Your passkeys.", answer=PasskeyList)
    async def get(self) -> PasskeyList:
        return PasskeyList(await self.services.passkeys.of(self.identity.user_id))

    @operation(
        "Store a passkey that was created with options of this login session.",
        body=NewPasskey,
        step_up=True,
        status=201,
        answer=PasskeyRow,
        errors=(PasskeyRefused, TooManyPasskeys, NoRelyingParty),
        audit="passkey.added",
    )
    async def post(self, body: NewPasskey) -> PasskeyRow:
        claims = self.identity.claims
        return await self.services.passkeys.register(
            relying_party(self), claims.sub, claims.sid, body.credential, body.name
        )


class PasskeyOptionsHandler(ApiHandler):
    @operation(
        "Options for a new passkey, which signs in without a name. They are valid for five "
        "minutes.",
        step_up=True,
        answer=WebAuthnOptions,
        errors=(NotFound, TooManyPasskeys, NoRelyingParty),
    )
    async def post(self) -> WebAuthnOptions:
        claims = self.identity.claims
        party = relying_party(self)
        passkeys = self.services.passkeys
        return WebAuthnOptions(await passkeys.creation_options(party, claims.sub, claims.sid))


class PasskeyHandler(ApiHandler):
    @operation(
        "Rename a passkey.", body=RenamePasskey, step_up=True, answer=PasskeyRow, errors=(NotFound,)
    )
    async def patch(self, passkey_id: str, body: RenamePasskey) -> PasskeyRow:
        return await self.services.passkeys.rename(self.identity.user_id, passkey_id, body.name)

    @operation(
        "Remove a passkey.",
        step_up=True,
        status=204,
        errors=(NotFound,),
        audit="passkey.removed",
    )
    async def delete(self, passkey_id: str) -> None:
        await self.services.passkeys.remove(self.identity.user_id, passkey_id)


class PasskeyRequestHandler(ApiHandler):
    @operation(
        "Options for signing in with a passkey, for using one as second factor, and for step-up. "
        "They are valid for five minutes, and once.",
        access="anyone",
        answer=WebAuthnOptions,
        errors=(NoRelyingParty,),
    )
    async def post(self) -> WebAuthnOptions:
        return WebAuthnOptions(self.services.passkeys.request_options(relying_party(self)))


class PasskeyLogInHandler(SignInHandler):
    signs_in = True

    @operation(
        "Sign in with a passkey alone. Without user verification it is a single factor: with "
        "an authenticator app, the response is 401 `second_factor_needed`, as for a password.",
        access="anyone",
        body=PasskeyLogIn,
        answer=BrowserSignIn | NativeSignIn,
        errors=(Unauthenticated, SecondFactorNeeded, RateLimited, NoRelyingParty),
    )
    async def post(self, body: PasskeyLogIn) -> BrowserSignIn | NativeSignIn:
        passkeys, device = self.services.passkeys, self.device(body.client)
        party = relying_party(self)
        try:
            asserted = await passkeys.verify(party, body.credential)
            result = await self.services.login_challenges.by_passkey(
                asserted, passkeys.use, body.client, device
            )
        except PasskeyRefused as error:
            limits = self.services.limits
            (await limits.take((limits.of.bad_tokens, network_of(device.ip)))).require()
            refused = Unauthenticated(error.evidence)
            refused.about = error.about
            raise refused from error
        return self.signed_in(result, body.client)
