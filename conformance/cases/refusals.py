"""Credentials that are refused: with which code, and with no word too many."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time

import jwt

from conformance.http import is_problem, json_of
from conformance.socket import Json, Socket
from conformance.trial import Trial
from conformance.verdict import NotRun, expect, same

LONGEST_WAIT = 60.0
"""Seconds that a check waits for a token to expire."""


async def _closed(trial: Trial, socket: Socket, code: int = 4401) -> None:
    await socket.is_closed_with(code, trial.target.patience)


async def header(trial: Trial) -> None:
    refused = await trial.refused_by_header("not-a-token", 401)
    same(set(refused.problem), {"status", "title", "code"}, "members of the problem document")


async def subprotocol(trial: Trial) -> None:
    socket = await trial.by_subprotocol("not-a-token")
    same(socket.subprotocol, "usher.v1", "selected subprotocol of a refused socket")
    await _closed(trial, socket)


async def ticket(trial: Trial) -> None:
    await _closed(trial, await trial.by_ticket("not-a-ticket"))


async def cookie(trial: Trial) -> None:
    name, _ = (await trial.browser()).http.cookie()
    headers = {"Cookie": f"{name}=not-a-token"}
    socket = await trial.open(origin=trial.target.origin, headers=headers)
    await _closed(trial, socket)


async def user_join(trial: Trial) -> None:
    socket = await trial.open()
    await socket.send("user-join", {"auth": {"token": "not-a-token"}}, 1)
    await _closed(trial, socket)


async def user_join_without_credential(trial: Trial) -> None:
    nothings: tuple[Json | None, ...] = (
        None,
        {},
        {"auth": {}},
        {"auth": {"token": 1}},
        {"auth": {"token": ""}},
    )
    for data in nothings:
        socket = await trial.open()
        await socket.send("user-join", data, 1)
        await _closed(trial, socket)


async def event_before_join(trial: Trial) -> None:
    socket = await trial.open()
    await socket.send("heartbeat", None, 1)
    await _closed(trial, socket)


async def join_timeout(trial: Trial) -> None:
    socket = await trial.open()
    begun = time.monotonic()
    await socket.is_closed_with(4408, trial.target.join_timeout + trial.target.allowance)
    took = time.monotonic() - begun
    expect(took > trial.target.join_timeout / 2, f"closed after {took:.1f} s, before the time-out")


async def big_before_join(trial: Trial) -> None:
    socket = await trial.open()
    await socket.send("user-join", {"auth": {"token": "x" * 8192}}, 1)
    await _closed(trial, socket, 1009)


async def two_explicit(trial: Trial) -> None:
    ada = await trial.ada()
    bearer = ("usher.v1", f"usher.bearer.{ada.token}")
    socket = await trial.by_ticket(await ada.ticket(), subprotocols=bearer)
    await _closed(trial, socket, 4400)


async def two_sessions(trial: Trial) -> None:
    browser, ada = await trial.browser(), await trial.ada()
    name, value = browser.http.cookie()
    headers = {"Cookie": f"{name}={value}"}
    socket = await trial.by_ticket(await ada.ticket(), headers=headers, origin=trial.target.origin)
    await _closed(trial, socket, 4400)


async def forged(trial: Trial) -> None:
    token = (await trial.ada()).token
    claims = jwt.decode(token, options={"verify_signature": False})
    header = jwt.get_unverified_header(token)
    other = jwt.encode(claims, secrets.token_hex(32), "HS256", headers=header)
    raised = ".".join((_part({**header, "alg": "none"}), token.split(".")[1], ""))
    first, _, signature = token.split(".")
    admin = ".".join((first, _part({**claims, "role": "admin"}), signature))
    for forgery in (other, raised, admin):
        await _closed(trial, await trial.by_subprotocol(forgery))
        await trial.refused_by_header(forgery, 401)


async def alike(trial: Trial) -> None:
    token = (await trial.ada()).token
    ended = await trial.session()
    await ended.http.do("POST", "/api/auth/logout", status=204)
    bodies = []
    for wrong in ("not-a-token", token[:-4] + "AAAA", ended.token):
        http = await trial.nobody()
        http.token = wrong
        answer = await http.call("GET", "/api/auth/me")
        is_problem(answer, 401)
        bodies.append(json_of(answer))
    same([one == bodies[0] for one in bodies], [True] * 3, "refusals are alike")


async def expired(trial: Trial) -> None:
    ada = await trial.ada()
    life = float(ada.signed_in["expires_in"])
    if life > LONGEST_WAIT:
        raise NotRun(f"access tokens live {life:.0f} s; set ACCESS_TOKEN_TTL_SECONDS to 20, say")
    token, socket = ada.token, await trial.by_subprotocol(ada.token)
    joined = await socket.event("joined")
    expiring = await socket.event("token-expiring")
    same(expiring.get("expires_at"), joined.get("expires_at"), "expires_at of token-expiring")
    await socket.is_closed_with(4419, life + trial.target.patience)
    await _closed(trial, await trial.by_subprotocol(token), 4419)
    refused = await trial.refused_by_header(token, 401)
    same(refused.problem.get("code"), "token_expired", "code of the refusal in the handshake")


async def outlived(trial: Trial) -> None:
    ada = await trial.session()
    life = float(ada.signed_in["expires_in"])
    if life > LONGEST_WAIT:
        raise NotRun(f"access tokens live {life:.0f} s; set ACCESS_TOKEN_TTL_SECONDS to 20, say")
    until = time.monotonic() + life + 1
    socket = await trial.by_subprotocol(ada.token)
    joined = await socket.event("joined")
    await socket.event("token-expiring")
    told = await socket.do("token-refresh", {"token": await ada.refresh()})
    later = float(told["expires_at"]) > float(joined["expires_at"])
    expect(later, "expires_at is not later after the refresh")
    await asyncio.sleep(max(until - time.monotonic(), 0))
    await socket.alive()


def _part(content: dict[str, object]) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(content).encode())
    return encoded.rstrip(b"=").decode()
