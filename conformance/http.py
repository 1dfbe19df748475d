"""HTTP calls to the server under test."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx

from conformance.target import Target
from conformance.verdict import Broken, expect, same

Json = dict[str, Any]


class Http:
    """One HTTP client of one node; it keeps cookies.

    Args:
        token: sent as a bearer token; may be changed.
        origin: sent with every request, as browsers do with unsafe ones.
    """

    def __init__(
        self, client: httpx.AsyncClient, token: str | None = None, origin: str | None = None
    ) -> None:
        self.client, self.token, self.origin = client, token, origin

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request.

        Raises:
            Broken: there is no response.
        """
        sent: dict[str, str] = {}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        if self.origin is not None:
            sent["Origin"] = self.origin
        sent |= headers or {}
        given: Json = {} if body is None else {"json": body}
        if form is not None:
            given["data"] = dict(form)
        try:
            return await self.client.request(method, path, headers=sent, **given)
        except httpx.HTTPError as error:
            raise Broken(f"{method} {path}: no response: {type(error).__name__}") from None

    async def do(self, method: str, path: str, body: object = None, status: int = 200) -> Json:
        """A request that has to succeed; returns the JSON of the response.

        Raises:
            Broken: the status is another one.
        """
        answer = await self.call(method, path, body)
        found = json_of(answer)
        same((answer.status_code, found.get("code")), (status, None), f"{method} {path}")
        return found

    async def refused(
        self, method: str, path: str, status: int, code: str | None = None, body: object = None
    ) -> httpx.Response:
        """A request that has to be refused with a problem document (RFC 9457).

        Raises:
            Broken: it is not.
        """
        answer = await self.call(method, path, body)
        is_problem(answer, status, code)
        return answer

    def cookie(self) -> tuple[str, str]:
        """Name and value of the access token's cookie. Raises Broken if there is none."""
        for cookie in self.client.cookies.jar:
            if cookie.name.endswith("access_token") and cookie.value:
                return cookie.name, cookie.value
        raise Broken("the sign-in of a browser set no cookie access_token")


def is_problem(answer: httpx.Response, status: int, code: str | None = None) -> None:
    """Raises Broken unless a response is a problem document with this status and code."""
    what = f"{answer.request.method} {answer.request.url.path}"
    same(answer.status_code, status, f"status of {what}")
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    same(kind, "application/problem+json", f"Content-Type of {what}")
    found = json_of(answer)
    same(found.get("status"), status, f"member status of {what}")
    for name in ("title", "code"):
        expect(isinstance(found.get(name), str) and found[name], f"{what}: no member {name}")
    if code is not None:
        same(found["code"], code, f"code of {what}")


def json_of(answer: httpx.Response) -> Json:
    """The JSON object of a response, or {}."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def http_of(target: Target, stack: AsyncExitStack, node: str) -> Http:
    """A new client without credentials, which the stack closes."""
    client = httpx.AsyncClient(
        base_url=node,
        timeout=target.timeout,
        trust_env=False,
        follow_redirects=False,
        verify=target.tls,
    )
    return Http(await stack.enter_async_context(client))
