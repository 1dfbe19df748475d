"""What a check works with: the server, users, and sockets of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlencode

from conformance.http import Http, http_of
from conformance.people import People, Person
from conformance.provider import Provider
from conformance.socket import HandshakeRefused, Socket, open_socket
from conformance.target import Target
from conformance.verdict import Broken, NotRun, same

Pair = tuple[Person, Socket, Person, Socket, str]


class Trial:
    """One run of one check. What it opened is closed with `stack`."""

    def __init__(
        self, target: Target, people: People, stack: AsyncExitStack, provider: Provider | None
    ) -> None:
        self.target, self._people, self.stack = target, people, stack
        self._provider = provider

    # ---- users -----------------------------------------------------------------------------

    async def ada(self) -> Person:
        """A login session of a user. Other checks use it too, so it must not be changed."""
        return await self._people.shared(self.stack, 0)

    async def ben(self) -> Person:
        """The same of another user."""
        return await self._people.shared(self.stack, 1)

    async def browser(self) -> Person:
        """The same in a browser, of the same user as `ada`."""
        return await self._people.shared(self.stack, 0, browser=True)

    async def session(self) -> Person:
        """A new login session, of the same user as `ada`."""
        return await self._people.sign_in(self.stack, 0)

    async def newcomer(self) -> Person:
        """Somebody whose account may be changed."""
        return await self._people.newcomer(self.stack)

    async def all_closed(self, sockets: Iterable[Socket], code: int = 4410) -> None:
        """Each socket ends with this code within the bound of a revocation that was just
        acknowledged. Raises Broken if one does not."""
        seconds = self.target.cut_seconds
        await asyncio.gather(*(socket.is_closed_with(code, seconds) for socket in sockets))

    async def again(self, person: Person, *, browser: bool = False) -> Person:
        """Another login session of somebody."""
        return await self._people.again(self.stack, person.account, browser=browser)

    async def nobody(self, node: str | None = None) -> Http:
        """An HTTP client without credentials."""
        return await http_of(self.target, self.stack, node or self.target.near)

    async def visitor(self) -> Http:
        """A browser without credentials."""
        http = await self.nobody()
        http.origin = self.target.origin
        return http

    async def admin(self) -> Http:
        """An HTTP client with the admin key. Raises NotRun if there is none."""
        return await self._with(self.target.admin_key, "--admin-key")

    async def administrator(self) -> Http:
        """The same with an administrator's access token."""
        if self.target.administrator is not None:
            email, password = self.target.administrator
            http = await self.nobody()
            body = {"email": email, "password": password, "client": "native"}
            http.token = str((await http.do("POST", "/api/auth/login", body)).get("access_token"))
            return http
        return await self._with(self.target.admin_token, "--admin-token")

    async def _with(self, token: str | None, option: str) -> Http:
        if token is None:
            raise NotRun(f"needs {option}")
        http = await self.nobody()
        http.token = token
        return http

    def provider(self) -> Provider:
        """The kit's own provider. Raises NotRun if the server does not know it."""
        if self._provider is None:
            raise NotRun("needs --provider")
        return self._provider

    # ---- sockets ---------------------------------------------------------------------------

    async def open(self, *, node: str | None = None, **options: Any) -> Socket:
        """A socket as `open_socket` opens it; by default at the near node, without a credential.

        Raises:
            HandshakeRefused: the server answered with an HTTP status.
        """
        return await open_socket(self.target, self.stack, node=node or self.target.near, **options)

    async def by_subprotocol(self, token: str, node: str | None = None) -> Socket:
        return await self.open(node=node, subprotocols=("usher.v1", f"usher.bearer.{token}"))

    async def by_ticket(self, ticket: str, node: str | None = None, **options: Any) -> Socket:
        query = "?" + urlencode({"ticket": ticket})
        return await self.open(node=node, query=query, **options)

    async def by_cookie(self, http: Http, **options: Any) -> Socket:
        """As a browser on the server's own page."""
        name, value = http.cookie()
        own = {"origin": self.target.origin, "headers": {"Cookie": f"{name}={value}"}}
        return await self.open(**{**own, **options})

    async def by_header(self, token: str, node: str | None = None) -> Socket:
        return await self.open(node=node, headers={"Authorization": f"Bearer {token}"})

    async def joined(self, person: Person, node: str | None = None) -> Socket:
        """A socket of somebody that has joined. Other sockets of the session stay open."""
        socket = await self.by_ticket(await person.ticket(), node)
        await socket.event("joined")
        return socket

    async def everywhere(self, person: Person) -> list[Socket]:
        """A joined socket at the near node, and one at the far node."""
        return [await self.joined(person, node) for node in (self.target.near, self.target.far)]

    async def refused_by_header(self, token: str, status: int) -> HandshakeRefused:
        """A handshake with this token in the header, which has to get this status."""
        try:
            await self.by_header(token)
        except HandshakeRefused as refused:
            same(refused.status, status, "status of the handshake")
            return refused
        raise Broken(f"expected HTTP {status} before the upgrade, got a socket")

    # ---- rooms -----------------------------------------------------------------------------

    async def channel(self, owner: Person, *members: Person, right: str = "write") -> str:
        """A new private channel of somebody; returns its room."""
        body = {"name": "conformance", "private": True}
        made = await owner.http.do("POST", "/api/channels", body, 201)
        room = f"channel:{made['id']}"
        self.stack.push_async_callback(_drop, owner, room)
        for member in members:
            await self.let_in(owner, room, member, right)
        return room

    async def let_in(self, owner: Person, room: str, member: Person, right: str = "write") -> None:
        path = f"{path_of(room)}/members/{member.id}"
        answer = await owner.http.call("PUT", path, {"right": right})
        if answer.status_code not in {200, 201, 204}:
            raise Broken(f"PUT {path}: status {answer.status_code}")

    async def put_out(self, owner: Person, room: str, member: Person) -> None:
        await owner.http.do("DELETE", f"{path_of(room)}/members/{member.id}", status=204)

    async def two(self, right: str = "write") -> Pair:
        """An owner at the near node, a member at the far node, and their private channel."""
        ada, ben = await self.ada(), await self.ben()
        room = await self.channel(ada, ben, right=right)
        near = await self.joined(ada)
        far = await self.joined(ben, self.target.far)
        return ada, near, ben, far, room


async def _drop(owner: Person, room: str) -> None:
    # Not part of what is checked: an owner who has signed out leaves the channel behind.
    with suppress(Broken):
        await owner.http.call("DELETE", path_of(room))


def path_of(room: str) -> str:
    """The URL path of a channel's room."""
    return "/api/channels/" + room.removeprefix("channel:")
