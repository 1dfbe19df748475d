"""Administration of accounts."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from handlers.api import ApiHandler
from handlers.operations import PATH_SEGMENT, operation
from services.accounts.account_rows import UserRow
from services.accounts.administration import MAX_PAGE
from services.claims import Role
from services.errors import (
    BadRequest,
    EmailDomainRefused,
    EmailTaken,
    Forbidden,
    LastAdmin,
    NotFound,
    StoreUnavailable,
)
from services.registration.invitations import (
    DEFAULT_SECONDS,
    LEAST_SECONDS,
    MOST_SECONDS,
    InvitationRow,
    TooManyInvitations,
)

MAX_WORDS = 100
_NEWEST_CURSOR = re.compile(r"([0-9]{1,12}\.[0-9]{1,9})~([A-Za-z0-9_-]{1,64})", re.ASCII)
Seconds = Annotated[float, msgspec.Meta(ge=LEAST_SECONDS, le=MOST_SECONDS)]


class UserPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`next`: give it as `after` for the next page; absent on the last one."""

    items: list[UserRow]
    next: str | None = None


class OpenSession(msgspec.Struct, frozen=True):
    """An active login session of the account. `live_sockets`: its open sockets on all nodes."""

    id: str
    device: str
    ip: str
    client: str
    method: str
    created_at: float
    last_seen_at: float
    expires_at: float
    live_sockets: int


class UserShown(msgspec.Struct, frozen=True):
    """An account in detail. `providers`: names of the providers of its linked accounts.
    `second_factor`: whether an authenticator app is asked for after a password."""

    id: str
    email: str
    name: str
    role: Role
    disabled: bool
    created_at: float
    email_verified: bool
    has_password: bool
    providers: list[str]
    second_factor: bool
    passkeys: int
    sessions: list[OpenSession]


class ChangeUser(msgspec.Struct):
    """What is left out stays as it is."""

    role: Role | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET


class NewUser(msgspec.Struct):
    """`role`: `user`; administrators are not made like this."""

    email: str
    name: str
    role: Role = "user"


class UserMade(msgspec.Struct, frozen=True):
    """`set_password_url`: to be given to the new user; it works once, until `expires_at`, and is
    shown this once."""

    user: UserRow
    set_password_url: str
    expires_at: float


class NewInvitation(msgspec.Struct):
    """`email`: the only address that may sign up with it; without it, any address may. `role`: the
    role of the new account. `expires_in`: seconds."""

    email: str | None = None
    role: Role = "user"
    expires_in: Seconds = DEFAULT_SECONDS


class InvitationMade(msgspec.Struct, frozen=True):
    """`url`: the link for the invited user. It works once, until `expires_at`, and is shown only
    once."""

    id: str
    email: str | None
    role: Role
    created_by: str | None
    created_at: float
    expires_at: float
    url: str


class InvitationPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`next`: give it as `after` for the next page; absent on the last one."""

    items: list[InvitationRow]
    next: str | None = None


class UsersHandler(ApiHandler):
    @operation(
        "Accounts, a page at a time; or the one with an address. A key with the scope `users` "
        "alone finds by address only.",
        access="directory",
        answer=UserPage,
        query={
            "after": "`next` of the page before",
            "limit": "1 to 100, usually 50",
            "email": "the address of the account that is looked for",
            "id": "the id of one; repeated up to 100 times, all that are there",
            "q": "only accounts with this in the name or e-mail address, or with this id; newest "
            "first",
            "order": "`newest`: newest first, also without `q`",
        },
    )
    async def get(self) -> UserPage:
        email = self.get_query_argument("email", None)
        if email is not None:
            return UserPage(await self.services.administration.with_address(email))
        if self.key is not None and "read" not in self.key.scopes:
            raise Forbidden("a key with the scope users finds by address only")
        ids = self.get_query_arguments("id")
        if ids:
            if len(ids) > MAX_PAGE or not all(re.fullmatch(PATH_SEGMENT, one) for one in ids):
                raise BadRequest("id", detail=f"id: of accounts, up to {MAX_PAGE} of them")
            return UserPage(await self.services.administration.with_ids(ids))
        limit = self.page_limit(50, MAX_PAGE)
        words, after = (
            self.get_query_argument("q", "").strip(),
            self.get_query_argument("after", ""),
        )
        if words or self.get_query_argument("order", "") == "newest":
            return await self.newest(words, after, limit)
        # One more than asked for tells whether this is the last page.
        if after and not re.fullmatch(PATH_SEGMENT, after):
            raise BadRequest("after", detail="after: `next` of the page before")
        rows = await self.services.administration.page(after, limit + 1)
        items = rows[:limit]
        return UserPage(items, items[-1].id if len(rows) > limit else None)

    async def newest(self, words: str, after: str, limit: int) -> UserPage:
        """Accounts that match, newest first."""
        if len(words) > MAX_WORDS or not words.isprintable():
            raise BadRequest("q", detail=f"q: up to {MAX_WORDS} printable characters")
        older_than = None
        if after:
            match = _NEWEST_CURSOR.fullmatch(after)
            if match is None:
                raise BadRequest("after", detail="after: `next` of the page before")
            older_than = float(match[1]), match[2]
        rows = await self.services.administration.search(words, older_than, limit + 1)
        items = rows[:limit]
        last = f"{items[-1].created_at!r}~{items[-1].id}" if len(rows) > limit else None
        return UserPage(items, last)

    @operation(
        "Open an account without a password, and get the link by which its user sets one. It is "
        "never an administrator's.",
        access="users",
        body=NewUser,
        status=201,
        answer=UserMade,
        errors=(EmailTaken, EmailDomainRefused),
        audit="user.created",
    )
    async def post(self, body: NewUser) -> UserMade:
        if body.role != "user":
            raise Forbidden("an administrator's account cannot be created for a user")
        made = await self.services.password_links.open_account(body.email, body.name)
        return UserMade(made.user, made.url.reveal(), made.expires_at)


class UserHandler(ApiHandler):
    @operation(
        "One account: what it signs in with, and its login sessions, last used first.",
        access="admin",
        answer=UserShown,
        errors=(NotFound,),
    )
    async def get(self, user_id: str) -> UserShown:
        found = await self.services.administration.details(user_id)
        try:
            sockets = await self.services.pool.counts(user_id)
        except StoreUnavailable:
            sockets = {}
        sessions = [
            OpenSession(**msgspec.structs.asdict(row), live_sockets=sockets.get(row.id, 0))
            for row in found.sessions
        ]
        return UserShown(
            **msgspec.structs.asdict(found.user),
            email_verified=found.email_verified,
            has_password=found.has_password,
            providers=found.providers,
            second_factor=found.second_factor,
            passkeys=found.passkeys,
            sessions=sessions,
        )

    @operation(
        "Change a role, disable or enable an account. Sockets that may not stay are closed.",
        access="users",
        body=ChangeUser,
        answer=UserRow,
        errors=(NotFound, LastAdmin),
        audit="user.changed",
    )
    async def patch(self, user_id: str, body: ChangeUser) -> UserRow:
        role = None if body.role is msgspec.UNSET else body.role
        disabled = None if body.disabled is msgspec.UNSET else body.disabled
        if role is None and disabled is None:
            raise BadRequest("nothing to change", detail="role or disabled is needed")
        by_key = self.key is not None
        return await self.services.administration.update(user_id, role, disabled, by_key)

    @operation(
        "Delete an account and close its sockets.",
        access="admin",
        status=204,
        errors=(NotFound, LastAdmin),
        audit="user.deleted",
    )
    async def delete(self, user_id: str) -> None:
        await self.services.administration.delete(user_id)


class DisconnectHandler(ApiHandler):
    @operation(
        "Sign a user out everywhere: every login session ends, every socket closes.",
        access="disconnect",
        status=204,
        errors=(NotFound,),
        audit="user.signed_out",
    )
    async def post(self, user_id: str) -> None:
        await self.services.administration.disconnect(user_id)


class InvitationsHandler(ApiHandler):
    @operation(
        "Invitations that can be used, newest first, a page at a time.",
        access="admin",
        answer=InvitationPage,
        query={"after": "`next` of the page before", "limit": "1 to 100, usually 50"},
    )
    async def get(self) -> InvitationPage:
        limit = self.page_limit(50, MAX_PAGE)
        after = self.get_query_argument("after", "")
        if after and not re.fullmatch(PATH_SEGMENT, after):
            raise BadRequest("after", detail="after: `next` of the page before")
        # One more than requested shows whether this is the last page.
        rows = await self.services.registration.invitations.active(after, limit + 1)
        items = rows[:limit]
        return InvitationPage(items, items[-1].id if len(rows) > limit else None)

    @operation(
        "Create an invitation: a link to create an account, shown only once. It works while its "
        "creator is an administrator.",
        access="admin",
        body=NewInvitation,
        status=201,
        answer=InvitationMade,
        errors=(EmailDomainRefused, TooManyInvitations),
        audit="invitation.created",
    )
    async def post(self, body: NewInvitation) -> InvitationMade:
        claims = self.identity.claims
        made = await self.services.registration.invitations.create(
            claims.sub, body.email, body.role, body.expires_in, claims.sid
        )
        return InvitationMade(**msgspec.structs.asdict(made.row), url=made.url.reveal())


class InvitationHandler(ApiHandler):
    @operation(
        "Revoke an invitation.",
        access="admin",
        status=204,
        errors=(NotFound,),
        audit="invitation.revoked",
    )
    async def delete(self, invitation_id: str) -> None:
        await self.services.registration.invitations.revoke(invitation_id)
