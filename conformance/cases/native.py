"""Native apps: a code that the browser fetches, and its exchange (RFC 8252, RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from conformance.cases.providers import Visit
from conformance.http import Json, is_problem, json_of
from conformance.people import issuer_of
from conformance.trial import Trial
from conformance.verdict import expect, same

REDIRECT_URI = "http://127.0.0.1:49152/callback"
FOREIGN = (
    "https://foreign.invalid/callback",
    "http://localhost:49152/callback",
    "http://127.0.0.1.foreign.invalid/callback",
    "http://127.0.0.1@foreign.invalid/callback",
)
"""No loopback addresses. What `localhost` means is for a resolver to say."""


class App:
    """A native app that asks for a code."""

    def __init__(self, redirect_uri: str = REDIRECT_URI) -> None:
        self.verifier, self.state = secrets.token_urlsafe(48), secrets.token_urlsafe(12)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.query = {
            "redirect_uri": redirect_uri,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    def code(self, location: str, issuer: str) -> str:
        """The code in the URL that the browser is sent to. Raises Broken if it is another URL."""
        expect(location.startswith(f"{REDIRECT_URI}?"), "the code is sent to another redirect URI")
        given = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        same(given.get("state"), self.state, "state beside the code")
        same(given.get("iss"), issuer, "iss beside the code (RFC 9207)")
        expect("code" in given, "no code in the redirect URI")
        return given["code"]

    async def exchange(
        self, trial: Trial, code: str, verifier: str | None = None
    ) -> httpx.Response:
        body = {
            "code": code,
            "code_verifier": verifier or self.verifier,
            "redirect_uri": REDIRECT_URI,
        }
        return await (await trial.nobody()).call("POST", "/api/auth/exchange", body)


async def _coded(trial: Trial) -> tuple[App, str]:
    """An app, and a code for it that the page of a signed-in user has fetched."""
    app, browser = App(), await trial.browser()
    made = await browser.http.do("POST", "/api/auth/native-code", app.query)
    _, token = browser.http.cookie()
    issuer = trial.target.public_url or issuer_of(token)
    return app, app.code(str(made.get("location")), issuer)


async def _signed_in(trial: Trial, answer: httpx.Response) -> Json:
    found = json_of(answer)
    same((answer.status_code, found.get("code")), (200, None), "exchange of a code")
    await (await trial.by_subprotocol(str(found.get("access_token")))).event("joined")
    return found


async def code(trial: Trial) -> None:
    app, given = await _coded(trial)
    found = await _signed_in(trial, await app.exchange(trial, given))
    expect(isinstance(found.get("refresh_token"), str), "the exchange has no refresh_token")


async def code_with_provider(trial: Trial) -> None:
    app, visit = App(), Visit(trial, await trial.visitor())
    location = await visit.authorized("?" + urlencode({"client": "native", **app.query}))
    issuer = trial.target.public_url or issuer_of((await trial.ada()).token)
    given = app.code(location, issuer)
    found = await _signed_in(trial, await app.exchange(trial, given))
    visit.http.token = str(found["access_token"])
    await visit.http.do("DELETE", "/api/auth/me", status=204)


async def verifier(trial: Trial) -> None:
    app, given = await _coded(trial)
    is_problem(await app.exchange(trial, given, secrets.token_urlsafe(48)), 401)
    # Whoever holds a stolen code may not go on guessing.
    is_problem(await app.exchange(trial, given), 401)


async def code_twice(trial: Trial) -> None:
    app, given = await _coded(trial)
    found = json_of(await app.exchange(trial, given))
    token = str(found.get("access_token"))
    sockets = [await trial.by_subprotocol(token)]
    await sockets[0].event("joined")
    http = await trial.nobody()
    http.token = token
    if trial.target.far != trial.target.near:
        made = await http.do("POST", "/api/ws/ticket", status=201)
        sockets.append(await trial.by_ticket(str(made["ticket"]), trial.target.far))
        await sockets[1].event("joined")
    is_problem(await app.exchange(trial, given), 401)
    await trial.all_closed(sockets)
    await http.refused("GET", "/api/auth/me", 401)


async def foreign_redirect(trial: Trial) -> None:
    browser = await trial.browser()
    for uri in FOREIGN:
        query = App(uri).query
        answer = await browser.http.call("POST", "/api/auth/native-code", query)
        expect(answer.status_code == 400, f"a code for {uri}: status {answer.status_code}")
    plain = {**App().query, "code_challenge_method": "plain"}
    bare = {**App().query, "code_challenge": ""}
    for query in (plain, bare):
        answer = await browser.http.call("POST", "/api/auth/native-code", query)
        expect(answer.status_code == 400, f"a code without S256: status {answer.status_code}")


async def by_program(trial: Trial) -> None:
    ada = await trial.ada()
    await ada.http.refused("POST", "/api/auth/native-code", 403, body=App().query)
