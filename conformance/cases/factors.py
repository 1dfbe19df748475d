"""Second factors, and acts that need a recent or a stronger authentication (step-up)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from contextlib import suppress
from dataclasses import dataclass

import httpx

from conformance.http import is_problem, json_of
from conformance.people import Person
from conformance.socket import Socket
from conformance.trial import Trial
from conformance.verdict import Broken, NotRun, expect, same

LONGEST_WAIT = 60.0
"""Seconds that a check waits for a proof to expire."""
SPARE = 4.0
"""Seconds that a token has to live longer than a proof, so that the socket sees that one end."""
WRONG_ANSWERS = 5
"""After which a challenge is dead."""


@dataclass
class Armed:
    """Somebody with an authenticator app. `before` is a login session from before it."""

    person: Person
    before: Person
    used_code: str
    recovery_codes: list[str]


def totp(secret: str, at: float) -> str:
    """The code of an authenticator app (RFC 6238, with its default of six digits and SHA-1)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, (int(at) // 30).to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


async def _armed(trial: Trial) -> Armed:
    person = await trial.newcomer()
    before = await trial.again(person)
    answer = await person.http.call("POST", "/api/auth/totp")
    expect(answer.status_code in {200, 201}, f"POST /api/auth/totp: status {answer.status_code}")
    code = totp(str(json_of(answer).get("secret")), time.time())
    made = await person.http.do("POST", "/api/auth/totp/confirm", {"code": code})
    codes = made.get("recovery_codes")
    expect(isinstance(codes, list) and len(codes) == 10, "not ten recovery codes")
    spare = [str(one) for one in codes or ()]
    # With two factors, only a session that was proven with both may delete the account.
    proven = await person.http.do("POST", "/api/auth/step-up", {"code": spare.pop()})
    person.account.token = person.token = person.http.token = str(proven.get("access_token"))
    # Its owner could not delete the account with the password alone.
    trial.stack.push_async_callback(_disarm, person)
    return Armed(person, before, code, spare)


async def _disarm(person: Person) -> None:
    with suppress(Broken):
        await person.http.call("DELETE", "/api/auth/totp")


async def _challenge(trial: Trial, armed: Armed) -> str:
    """Sign in with the password alone; returns the challenge of the refusal."""
    account = armed.person.account
    body = {"email": account.email, "password": account.password, "client": "native"}
    answer = await (await trial.nobody()).call("POST", "/api/auth/login", body)
    is_problem(answer, 401, "second_factor_needed")
    found = json_of(answer)
    expect({"totp", "recovery_code"} <= set(found.get("methods") or ()), "methods are missing")
    expect("access_token" not in found, "a token before the second factor")
    return str(found.get("challenge"))


async def _second(trial: Trial, challenge: str, code: str) -> httpx.Response:
    body = {"challenge": challenge, "code": code}
    return await (await trial.nobody()).call("POST", "/api/auth/second-factor", body)


async def second_factor(trial: Trial) -> None:
    armed = await _armed(trial)
    challenge = await _challenge(trial, armed)
    answer = await _second(trial, challenge, armed.recovery_codes[0])
    same(answer.status_code, 200, "status of the second factor")
    token = str(json_of(answer).get("access_token"))
    await (await trial.by_subprotocol(token)).event("joined")
    again = await _second(trial, challenge, armed.recovery_codes[1])
    expect(again.status_code in {401, 403}, "a challenge was accepted twice")


async def codes_once(trial: Trial) -> None:
    armed = await _armed(trial)
    challenge = await _challenge(trial, armed)
    answer = await _second(trial, challenge, armed.used_code)
    expect(answer.status_code in {401, 403}, "the code that activated the app was accepted again")
    answer = await _second(trial, challenge, armed.recovery_codes[0])
    same(answer.status_code, 200, "status with a recovery code")
    answer = await _second(trial, await _challenge(trial, armed), armed.recovery_codes[0])
    expect(answer.status_code in {401, 403}, "a recovery code was accepted twice")


async def wrong_answers(trial: Trial) -> None:
    armed = await _armed(trial)
    challenge = await _challenge(trial, armed)
    for _ in range(WRONG_ANSWERS):
        answer = await _second(trial, challenge, "no-such-code")
        expect(answer.status_code in {401, 403}, "a wrong code was accepted")
    answer = await _second(trial, challenge, armed.recovery_codes[0])
    expect(answer.status_code in {401, 403}, "a challenge lives on after five wrong answers")


async def _stepped_up(armed: Armed) -> str:
    """A token of the session from before, after it was proven anew."""
    body = {"code": armed.recovery_codes[-1]}
    found = await armed.before.http.do("POST", "/api/auth/step-up", body)
    armed.before.token = armed.before.http.token = str(found.get("access_token"))
    return armed.before.token


async def step_up_needed(trial: Trial) -> None:
    armed = await _armed(trial)
    http = armed.before.http
    answer = await http.refused("DELETE", "/api/auth/totp", 401, "step_up_needed")
    told = answer.headers.get("WWW-Authenticate", "")
    for part in ("Bearer", 'error="insufficient_user_authentication"', "max_age=", "acr_values="):
        expect(part in told, f"WWW-Authenticate lacks {part}: {told!r}")
    await _stepped_up(armed)
    await http.do("DELETE", "/api/auth/totp", status=204)


async def step_up_room(trial: Trial) -> None:
    seconds = trial.target.step_up_seconds
    if seconds > LONGEST_WAIT:
        raise NotRun(f"a proof counts for {seconds:.0f} s; set STEP_UP_SECONDS to 20, say")
    ada = await trial.newcomer()
    life = float(ada.signed_in["expires_in"])
    if life < seconds + SPARE:
        raise NotRun(f"access tokens live {life:.0f} s, not longer than a proof")
    await _proven(ada)
    body = {"name": "conformance", "private": True, "step_up": True}
    made = await ada.http.do("POST", "/api/channels", body, 201)
    room = f"channel:{made['id']}"
    await asyncio.sleep(seconds + 1)
    await ada.refresh()
    socket = await trial.joined(ada)
    for event in ("join", "history", "message"):
        await socket.refused(event, "step_up_needed", {"room": room, "data": 1})
    await socket.do("token-refresh", {"token": await _proven(ada)})
    same(await socket.do("join", {"room": room}), {"room": room}, "reply to join after the proof")
    await socket.do("message", {"room": room, "data": "proven"})
    await socket.event("message", lambda one: bool(one.get("data") == "proven"))
    await _falls_back(socket, room, seconds)


async def _falls_back(socket: Socket, room: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await socket.event("access-changed", lambda one: room not in (one.get("rooms") or []))
    for event in ("join", "history", "message"):
        await socket.refused(event, "step_up_needed", {"room": room, "data": 1})
    await socket.alive()


async def _proven(person: Person) -> str:
    """A token of the same login session, after the password was asked for again."""
    body = {"password": person.account.password}
    found = await person.http.do("POST", "/api/auth/step-up", body)
    person.token = person.http.token = person.account.token = str(found.get("access_token"))
    person.refresh_token = str(found.get("refresh_token"))
    return person.token
