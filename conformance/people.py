"""Accounts and login sessions of the kit: made by sign-up, or with the admin key."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from conformance.http import Http, Json, http_of, json_of
from conformance.target import Target
from conformance.verdict import Broken, NotRun, same

SHARED_SIGN_INS = 30
"""Of one shared account: the contract allows 60 sign-ins an hour."""
FULL = 429


@dataclass
class Account:
    """An account of the kit."""

    email: str
    password: str
    id: str = ""
    name: str = "Conformance"
    sign_ins: int = 0
    gone: bool = False
    """Whether it is deleted, so that the kit need not delete it."""


@dataclass
class Person:
    """A login session of an account.

    Attributes:
        http: speaks to the near node as this user.
        browser: whether the session has cookies instead of tokens.
        token, refresh_token: of a native session.
        signed_in: the response to the sign-in.
    """

    account: Account
    http: Http
    browser: bool
    signed_in: Json = field(default_factory=dict)
    token: str = ""
    refresh_token: str = ""

    @property
    def id(self) -> str:
        return self.account.id

    async def ticket(self) -> str:
        """A new ticket."""
        return str((await self.http.do("POST", "/api/ws/ticket", status=201))["ticket"])

    async def refresh(self) -> str:
        """Rotate the refresh token; returns the new access token."""
        body = {"refresh_token": self.refresh_token}
        found = await self.http.do("POST", "/api/auth/refresh", body)
        self.token = self.http.token = str(found["access_token"])
        self.refresh_token = str(found["refresh_token"])
        return self.token


class People:
    """Makes accounts, and deletes them in the end."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._made: list[Account] = []
        self._shared: dict[int, Account] = {}

    async def sign_in(self, stack: AsyncExitStack, which: int, *, browser: bool = False) -> Person:
        """A new login session of a shared account; each number is another user."""
        account = self._shared.get(which)
        if account is None or account.sign_ins >= SHARED_SIGN_INS:
            account = self._shared[which] = await self.new_account(stack)
        return await self.again(stack, account, browser=browser)

    async def again(
        self, stack: AsyncExitStack, account: Account, *, browser: bool = False
    ) -> Person:
        """A new login session of an account."""
        http = await http_of(self._target, stack, self._target.near)
        http.origin = self._target.origin if browser else None
        body = {
            "email": account.email,
            "password": account.password,
            "client": "browser" if browser else "native",
        }
        account.sign_ins += 1
        found = await http.do("POST", "/api/auth/login", body)
        return _person(account, http, found, browser)

    async def new_account(self, stack: AsyncExitStack) -> Account:
        """An account that nobody else uses.

        Raises:
            NotRun: the server takes no sign-up, and there is no key that may make accounts.
        """
        email = f"conformance-{secrets.token_hex(8)}@{self._target.email_domain}"
        account = Account(email, secrets.token_urlsafe(18))
        http = await http_of(self._target, stack, self._target.near)
        body = {"email": email, "password": account.password, "name": account.name}
        answer = await http.call("POST", "/api/auth/signup", body | {"client": "native"})
        if answer.status_code == 201:
            account.id = str(json_of(answer)["user"]["id"])
        elif answer.status_code in {202, 403, FULL}:
            account.id = await self._with_key(http, account, answer.status_code)
        else:
            raise Broken(f"POST /api/auth/signup: status {answer.status_code}")
        self._made.append(account)
        return account

    async def _with_key(self, http: Http, account: Account, status: int) -> str:
        if self._target.admin_key is None:
            raise NotRun(f"sign-up was answered with {status}, and there is no --admin-key")
        http.token = self._target.admin_key
        body = {"email": account.email, "name": account.name}
        made = await http.do("POST", "/api/admin/users", body, 201)
        http.token = None
        _, _, token = urlsplit(str(made["set_password_url"])).fragment.partition("token=")
        proof = {"token": token, "new_password": account.password}
        await http.do("POST", "/api/auth/password/reset", proof, 204)
        return str(made["user"]["id"])

    async def clear(self) -> list[str]:
        """Delete every account that is left; returns the addresses of those that stay."""
        stay = []
        async with AsyncExitStack() as stack:
            for account in self._made:
                if account.gone:
                    continue
                try:
                    person = await self.again(stack, account)
                    await person.http.do("DELETE", "/api/auth/me", status=204)
                except Broken:
                    stay.append(account.email)
        return stay


def _person(account: Account, http: Http, found: Json, browser: bool) -> Person:
    person = Person(account, http, browser, found)
    same((found.get("user") or {}).get("id"), account.id, "id of who signed in")
    if not browser:
        person.token = http.token = str(found.get("access_token"))
        person.refresh_token = str(found.get("refresh_token"))
    return person
