"""Accounts and login sessions of the kit: made by sign-up, or with the admin key."""

from __future__ import annotations

import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from http.cookiejar import Cookie
from urllib.parse import urlsplit

import jwt

from conformance.http import Http, Json, http_of, json_of
from conformance.target import Target
from conformance.verdict import Broken, NotRun, same

SIGN_INS = 30
"""Of one account, at most, and half of its limits: the contract allows 60 an hour."""
LEFT_OF_A_TOKEN = 180.0
"""Seconds that the token of a shared session has to live when a check begins."""
FULL = 429


@dataclass
class Account:
    """An account of the kit."""

    email: str
    password: str
    id: str = ""
    name: str = "Conformance"
    sign_ins: int = 0
    token: str = ""
    """Of the newest sign-in, to delete the account with."""
    device: str = ""
    """With it the owner gets in, whatever limits of the address are used up."""
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


@dataclass(frozen=True)
class _Shared:
    """A login session, its cookies, and how long (time.monotonic) it is given to checks."""

    person: Person
    cookies: tuple[Cookie, ...]
    until: float


class People:
    """Makes accounts and login sessions, and deletes the accounts in the end."""

    def __init__(self, target: Target) -> None:
        self._target = target
        limits = (target.limit_signins, target.max_sessions)
        self._most = min((limit // 2 for limit in limits if limit > 0), default=SIGN_INS)
        self._made: list[Account] = []
        self._accounts: dict[int, Account] = {}
        self._sessions: dict[tuple[int, bool], _Shared] = {}

    async def shared(self, stack: AsyncExitStack, which: int, *, browser: bool = False) -> Person:
        """A login session that other checks use too; each number is another user.

        Signing in is what costs a server most, so one session serves many checks.
        """
        kept = self._sessions.get((which, browser))
        if kept is None or time.monotonic() > kept.until:
            person = await self.sign_in(stack, which, browser=browser)
            cookies = tuple(person.http.client.cookies.jar)
            until = time.monotonic() + float(person.signed_in["expires_in"]) - LEFT_OF_A_TOKEN
            self._sessions[which, browser] = _Shared(person, cookies, until)
            return person
        http = await http_of(self._target, stack, self._target.near)
        http.origin, http.token = kept.person.http.origin, kept.person.http.token
        for cookie in kept.cookies:
            http.client.cookies.jar.set_cookie(cookie)
        return replace(kept.person, http=http)

    def forget(self) -> None:
        """A check has failed: what is shared may not be what it was."""
        self._sessions.clear()

    async def sign_in(self, stack: AsyncExitStack, which: int, *, browser: bool = False) -> Person:
        """A new login session of the same user."""
        account = self._accounts.get(which)
        if account is not None and account.sign_ins < self._most:
            return await self.again(stack, account, browser=browser)
        person = await self.newcomer(stack, browser=browser)
        self._accounts[which] = person.account
        self._sessions = {key: one for key, one in self._sessions.items() if key[0] != which}
        return person

    async def again(
        self, stack: AsyncExitStack, account: Account, *, browser: bool = False
    ) -> Person:
        """A new login session of an account."""
        http = await self._client(stack, browser=browser)
        body = {"email": account.email, "password": account.password, "client": _kind(browser)}
        if account.device and not browser:
            body["device"] = account.device
        account.sign_ins += 1
        return _person(account, http, await http.do("POST", "/api/auth/login", body), browser)

    async def newcomer(self, stack: AsyncExitStack, *, browser: bool = False) -> Person:
        """A login session of somebody that no other check uses.

        Raises:
            NotRun: the server takes no sign-up, and there is no key that may make accounts.
        """
        email = f"conformance-{secrets.token_hex(8)}@{self._target.email_domain}"
        account = Account(email, secrets.token_urlsafe(18))
        http = await self._client(stack, browser=browser)
        body = {"email": email, "password": account.password, "name": account.name}
        answer = await http.call("POST", "/api/auth/signup", body | {"client": _kind(browser)})
        if answer.status_code == 201:
            found = json_of(answer)
            account.id = str((found.get("user") or {}).get("id"))
            self._made.append(account)
            return _person(account, http, found, browser)
        if answer.status_code not in {202, 403, FULL}:
            raise Broken(f"POST /api/auth/signup: status {answer.status_code}")
        await self._make_with_key(account, stack, answer.status_code)
        self._made.append(account)
        return await self.again(stack, account, browser=browser)

    async def _make_with_key(self, account: Account, stack: AsyncExitStack, status: int) -> None:
        if self._target.admin_key is None:
            raise NotRun(f"sign-up was answered with {status}, and there is no --admin-key")
        http = await self._client(stack)
        http.token = self._target.admin_key
        body = {"email": account.email, "name": account.name}
        made = await http.do("POST", "/api/admin/users", body, 201)
        http.token = None
        _, _, token = urlsplit(str(made["set_password_url"])).fragment.partition("token=")
        proof = {"token": token, "new_password": account.password}
        await http.do("POST", "/api/auth/password/reset", proof, 204)
        account.id = str(made["user"]["id"])

    async def _client(self, stack: AsyncExitStack, *, browser: bool = False) -> Http:
        http = await http_of(self._target, stack, self._target.near)
        http.origin = self._target.origin if browser else None
        return http

    async def clear(self) -> list[str]:
        """Delete every account that is left; returns the addresses of those that stay."""
        async with AsyncExitStack() as stack:
            http = await self._client(stack)
            return [
                account.email
                for account in self._made
                if not account.gone and not await self._deleted(account, http, stack)
            ]

    async def _deleted(self, account: Account, http: Http, stack: AsyncExitStack) -> bool:
        try:
            http.token = account.token
            if account.token and (await http.call("DELETE", "/api/auth/me")).status_code == 204:
                return True
            person = await self.again(stack, account)
            await person.http.do("DELETE", "/api/auth/me", status=204)
        except Broken:
            return False
        return True


def issuer_of(token: str) -> str:
    """`iss` of an access token: PUBLIC_URL, which may have another name of the same host than the
    URL that the kit is given."""
    claims: Json = jwt.decode(token, options={"verify_signature": False})
    return str(claims.get("iss"))


def _kind(browser: bool) -> str:
    return "browser" if browser else "native"


def _person(account: Account, http: Http, found: Json, browser: bool) -> Person:
    person = Person(account, http, browser, found)
    same((found.get("user") or {}).get("id"), account.id, "id of who signed in")
    if not browser:
        account.token = person.token = http.token = str(found.get("access_token"))
        person.refresh_token = str(found.get("refresh_token"))
        account.device = str(found.get("device") or account.device)
    return person
