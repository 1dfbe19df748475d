"""The caller's own account: profile, name, export, and deletion."""

from __future__ import annotations

from typing import Any

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.claims import Acr, Role
from services.errors import LastAdmin, RateLimited
from services.sessions.session_views import Profile


class ChangeMe(msgspec.Struct):
    name: str


class Exported(msgspec.Struct, frozen=True):
    """What is stored about the user, without secrets; see docs/accounts.md."""

    exported_at: float
    account: dict[str, Any]
    login_sessions: list[dict[str, Any]]
    linked_accounts: list[dict[str, Any]]
    known_networks: list[dict[str, Any]]
    passkeys: list[dict[str, Any]]
    channels: list[dict[str, Any]]
    memberships: list[dict[str, Any]]
    api_keys: list[dict[str, Any]]
    invitations: list[dict[str, Any]]
    audit: list[dict[str, Any]]


class OwnClaims(msgspec.Struct, frozen=True):
    """The claims of a verified access token (RFC 7519 section 4.1, RFC 9068 section 2.2)."""

    iss: str
    aud: str
    sub: str
    sid: str
    jti: str
    iat: float
    exp: float
    role: Role
    auth_time: float
    acr: Acr


class ClaimsHandler(ApiHandler):
    @operation(
        "The claims of the access token of this request. No script can read them where the token "
        "is in a cookie.",
        answer=OwnClaims,
    )
    async def get(self) -> OwnClaims:
        tokens, claims = self.services.tokens, self.identity.claims
        return OwnClaims(tokens.issuer, tokens.audience, **msgspec.structs.asdict(claims))


class MeHandler(ApiHandler):
    @operation("The signed-in user.", answer=Profile)
    async def get(self) -> Profile:
        return await self.services.accounts.profile(self.identity.user_id)

    @operation(
        "Change your display name. Open sockets and presence have it at once.",
        body=ChangeMe,
        answer=Profile,
    )
    async def patch(self, body: ChangeMe) -> Profile:
        user_id = self.identity.user_id
        profile = await self.services.administration.rename(user_id, body.name)
        self.services.audit.record("account.renamed", subject=user_id)
        return profile

    @operation(
        "Delete your account: its login sessions, sockets, memberships and linked accounts. "
        "Tokens are revoked at their providers. Messages stay in rooms, without your name.",
        status=204,
        errors=(LastAdmin,),
        audit="account.deleted",
        step_up=True,
    )
    async def delete(self) -> None:
        await self.services.administration.delete(self.identity.user_id)
        self.site.cookies.clear(self)


class ExportHandler(ApiHandler):
    @operation(
        "Your data as JSON, to keep. It is sent in parts: only a response that ends with the "
        "closing brace is complete.",
        answer=Exported,
        errors=(RateLimited,),
        audit="account.exported",
    )
    async def get(self) -> None:
        user_id, limits = self.identity.user_id, self.services.limits
        (await limits.take((limits.of.exports, user_id))).require()
        parts = self.services.export.parts(user_id)
        # The account may be deleted: then this is refused before anything is sent.
        first = await parts.__anext__()
        self.set_header("Content-Type", "application/json")
        self.set_header("Content-Disposition", 'attachment; filename="account.json"')
        self.write(first)
        async for part in parts:
            self.write(part)
            await self.flush()
