"""Signing in with an OpenID provider, and logging out at it (the back channel)."""

from __future__ import annotations

import secrets
from contextlib import suppress
from urllib.parse import urlsplit

from conformance.http import Http
from conformance.provider import FLAWS
from conformance.socket import Socket
from conformance.trial import Trial
from conformance.verdict import Broken, NotRun, expect, same

SENT_ON = frozenset({302, 303})


class Visit:
    """A new user of the provider, in a browser."""

    def __init__(self, trial: Trial, http: Http) -> None:
        self._trial, self.http = trial, http
        self.provider = trial.provider()
        self.subject = f"conformance-{secrets.token_hex(8)}"
        self.email = f"{self.subject}@{trial.target.email_domain}"
        self.sid = ""

    async def asked(self, query: str = "") -> str:
        """Go to the provider and say yes; returns the path and query of the redirect URI."""
        path = f"/oauth/{self.provider.settings.name}/login{query}"
        answer = await self.http.call("GET", path)
        expect(answer.status_code in SENT_ON, f"GET {path}: status {answer.status_code}")
        location = answer.headers.get("Location", "")
        if not location.startswith(self.provider.settings.issuer):
            raise NotRun(f"the server has the browser sign in at {location}: give it that URL")
        back, self.sid = self.provider.authorize(location, self.subject, self.email)
        parts = urlsplit(back)
        # The URL of the node may have a path in front, or a proxy may strip that of PUBLIC_URL.
        path = parts.path[max(0, parts.path.rfind("/oauth/")) :]
        return f"{path}?{parts.query}"

    async def authorized(self, query: str = "") -> str:
        """The whole flow; returns where the browser is sent in the end."""
        path = await self.asked(query)
        answer = await self.http.call("GET", path)
        expect(answer.status_code in SENT_ON, f"the redirect URI: status {answer.status_code}")
        return str(answer.headers.get("Location", ""))

    async def sign_in(self) -> Socket:
        """The same; returns a socket that has joined by cookie."""
        await self.authorized()
        socket = await self._trial.by_cookie(self.http)
        await socket.event("joined")
        return socket

    async def log_out(self, flaw: str = "", *, everywhere: bool = False) -> int:
        """The provider tells of its logout; returns the status of the response."""
        sid = None if everywhere else self.sid
        token = self.provider.logout_token(self.subject, sid, flaw)
        path = f"/oauth/{self.provider.settings.name}/backchannel-logout"
        stranger = await self._trial.nobody()
        return (await stranger.call("POST", path, form={"logout_token": token})).status_code

    async def delete(self) -> None:
        """Delete the account; not part of what is checked."""
        with suppress(Broken):
            await self.sign_in()
            await self.http.call("DELETE", "/api/auth/me")


async def sign_in(trial: Trial) -> None:
    visit = Visit(trial, await trial.visitor())
    await (await visit.sign_in()).alive()
    found = await visit.http.do("GET", "/api/auth/me")
    same(found.get("email"), visit.email, "e-mail address of who signed in")
    await visit.delete()


async def log_out(trial: Trial) -> None:
    visit = Visit(trial, await trial.visitor())
    near = await visit.sign_in()
    far = await trial.by_cookie(visit.http, node=trial.target.far)
    await far.event("joined")
    status = await visit.log_out()
    expect(status in {200, 204}, f"status of the back-channel logout: {status}")
    await trial.all_closed([near, far])
    await visit.delete()


async def log_out_everywhere(trial: Trial) -> None:
    visit = Visit(trial, await trial.visitor())
    desk = await visit.sign_in()
    visit.http = await trial.visitor()
    sofa = await visit.sign_in()
    status = await visit.log_out(everywhere=True)
    expect(status in {200, 204}, f"status of the back-channel logout: {status}")
    await trial.all_closed([desk, sofa])
    await visit.delete()


async def other_session_lives(trial: Trial) -> None:
    visit = Visit(trial, await trial.visitor())
    desk = await visit.sign_in()
    visit.http = await trial.visitor()
    sofa = await visit.sign_in()
    expect(await visit.log_out() in {200, 204}, "status of the back-channel logout")
    await trial.all_closed([sofa])
    await desk.alive()
    await visit.delete()


async def forged_log_out(trial: Trial) -> None:
    visit = Visit(trial, await trial.visitor())
    socket = await visit.sign_in()
    for flaw in FLAWS:
        same(await visit.log_out(flaw), 400, f"status of a back-channel logout, {flaw}")
    await socket.alive()
    await visit.delete()


async def foreign_state(trial: Trial) -> None:
    """Login CSRF: a browser is sent to the end of a flow that another one began."""
    attacker, victim = Visit(trial, await trial.visitor()), await trial.visitor()
    path = await attacker.asked()
    await victim.call("GET", path)
    status = (await victim.call("GET", "/api/auth/me")).status_code
    same(status, 401, "status of /api/auth/me after a flow that another browser began")
    own = Visit(trial, await trial.visitor())
    path, _, query = (await own.asked()).partition("?")
    await own.http.call("GET", f"{path}?{query.replace('state=', 'state=x')}")
    status = (await own.http.call("GET", "/api/auth/me")).status_code
    same(status, 401, "status of /api/auth/me after a wrong state")
