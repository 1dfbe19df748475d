"""Attackers are limited exactly and on every node, and owners can sign in whatever they do."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.checks import plain_refusal
from tests.support.databases import kinds
from tests.support.nodes import Nodes, nodes
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    address,
    close_code,
    connect,
    log_in,
    new_token,
    receive,
    sign_up,
)

# Several nodes are run on PostgreSQL, as a rule; test_nodes_flow.py has them on one SQLite file.
database_kind = kinds("postgresql")

WRONG = "nine slow barges 41"
ATTACKER, OWNER, ELSEWHERE = "2001:db8:bad::1", "203.0.113.7", "198.51.100.9"


@pytest.fixture(scope="module")
def pair(database_kind: str) -> Iterator[Nodes]:
    """Two nodes behind a proxy that these tests are, with the limits of the contract."""
    limits = {"WRONG_SIGNINS": 100, "SIGNUPS": 60, "SIGNINS": 60, "REFRESHES": 240, "TICKETS": 1200}
    chosen = {f"LIMIT_{name}": amount for name, amount in limits.items()}
    with nodes(database_kind, TRUSTED_PROXIES="127.0.0.1", **chosen) as two:
        yield two


@pytest.fixture(autouse=True)
def an_hour_later(pair: Nodes) -> None:
    """Each test begins with nothing counted."""
    for key in pair.redis.ask("KEYS", "usher:limits:*"):
        pair.redis.ask("DEL", key)


def from_(ip: str) -> dict[str, str]:
    return {"X-Forwarded-For": ip}


def sign_in(pair: Nodes, email: str, password: str, ip: str, node: int = 0, **more: Any) -> Answer:
    body = {"email": email, "password": password, "client": "native", **more}
    return Client(pair[node % 2]).post("/api/auth/login", body, **from_(ip))


def member(pair: Nodes, ip: str = OWNER) -> tuple[str, Answer]:
    """Somebody who has signed up from an address."""
    email = address()
    body = {"email": email, "password": PASSWORD, "name": "Ada", "client": "native"}
    answer = Client(pair[0]).post("/api/auth/signup", body, **from_(ip))
    assert answer.status == 201
    return email, answer


def guesses(pair: Nodes, emails: list[str], times: int, ip: str = ATTACKER) -> list[Answer]:
    """So many wrong passwords, thirty at a time, half on either node."""
    with ThreadPoolExecutor(30) as pool:
        return list(
            pool.map(lambda n: sign_in(pair, emails[n % len(emails)], WRONG, ip, n), range(times))
        )


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def true_wait(answer: Answer) -> None:
    """A 429 as the contract has it."""
    plain_refusal(answer, 429, "rate_limited")
    assert 3400 < int(answer.headers["Retry-After"]) <= 3600


@pytest.mark.slow
def test_of_120_wrong_sign_ins_30_at_a_time_on_two_nodes_100_are_looked_at(pair: Nodes) -> None:
    email, _ = member(pair)
    answers = guesses(pair, [email], 120)
    assert statuses(answers) == {401: 100, 429: 20}
    true_wait(next(answer for answer in answers if answer.status == 429))
    # The right one is not tried either; otherwise it could be distinguished from the wrong ones.
    true_wait(sign_in(pair, email, PASSWORD, "2001:db8:bad::ffff", 1))
    assert sign_in(pair, email, PASSWORD, OWNER).status == 200
    # A neighbour in another /64 is somebody else.
    assert sign_in(pair, email, WRONG, "2001:db8:bad:1::1").status == 401


@pytest.mark.slow
def test_a_spray_over_many_accounts_is_one_address_guessing(pair: Nodes) -> None:
    emails = [member(pair)[0] for _ in range(5)] + [address() for _ in range(35)]
    assert statuses(guesses(pair, emails, 110)) == {401: 100, 429: 10}


@pytest.mark.slow
def test_an_owner_on_a_known_device_signs_in_whatever_unauthenticated_clients_do(
    pair: Nodes,
) -> None:
    email, signed_up = member(pair)
    browser = Client(pair[0], browser=True)
    body = {"email": email, "password": PASSWORD}
    assert browser.post("/api/auth/login", body, **from_(OWNER)).status == 200
    guesses(pair, [email], 300)
    true_wait(sign_in(pair, email, PASSWORD, ATTACKER, 1))  # an unknown device
    device = signed_up.body["device"]
    assert sign_in(pair, email, PASSWORD, ATTACKER, 1, device=device).status == 200
    assert browser.post("/api/auth/login", body, **from_(ATTACKER)).status == 200
    assert sign_in(pair, email, PASSWORD, OWNER, 1).status == 200
    assert sign_in(pair, email, PASSWORD, ELSEWHERE, 1).status == 200
    # Nobody else's device helps, nor one that is made up.
    others = member(pair)[1].body["device"]
    for other in (others, others.partition(".")[0], "x" * 200):
        true_wait(sign_in(pair, email, PASSWORD, ATTACKER, device=other))


@pytest.mark.slow
def test_guessing_at_the_password_change_form_counts_the_guessers_session(pair: Nodes) -> None:
    email, _ = member(pair)
    thief, owner = log_in(pair[0], email), log_in(pair[1], email)
    wrong = {"current_password": WRONG, "new_password": "brass lantern under 9 oaks"}
    with ThreadPoolExecutor(20) as pool:
        found = statuses(
            list(pool.map(lambda _: thief.post("/api/auth/password", wrong), range(110)))
        )
    assert found == {403: 100, 429: 10}
    true_wait(thief.post("/api/auth/password", wrong | {"current_password": PASSWORD}))
    log_in(pair[0], email)
    right = wrong | {"current_password": PASSWORD}
    assert owner.post("/api/auth/password", right).status == 204


@pytest.mark.slow
def test_of_120_invalid_refresh_tokens_100_are_answered_and_a_valid_one_works(
    pair: Nodes,
) -> None:
    _, signed_up = member(pair)

    def junk(number: int) -> Answer:
        body = {"refresh_token": secrets.token_urlsafe(32)}
        return Client(pair[number % 2]).post("/api/auth/refresh", body, **from_(ATTACKER))

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(junk, range(120)))
    assert statuses(answers) == {401: 100, 429: 20}
    true_wait(next(answer for answer in answers if answer.status == 429))
    good = {"refresh_token": signed_up.body["refresh_token"]}
    assert Client(pair[1]).post("/api/auth/refresh", good, **from_(ATTACKER)).status == 200


@pytest.mark.slow
def test_of_120_invalid_api_keys_100_are_answered_and_a_valid_one_works(
    pair: Nodes,
) -> None:
    made = pair.admin.post("/api/admin/api-keys", {"name": "billing", "scopes": ["read"]}).body

    def read(number: int, key: str) -> Answer:
        client = Client(pair[number % 2], token=key)
        return client.call("GET", "/api/admin/users", headers=from_(ATTACKER))

    def junk(number: int) -> Answer:
        length = (43, 65)[number % 3 == 0]
        return read(number, "usher_key_" + secrets.token_urlsafe(64)[:length])

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(junk, range(120)))
    assert statuses(answers) == {401: 100, 429: 20}
    true_wait(next(answer for answer in answers if answer.status == 429))
    assert [read(n, made["key"]).status for n in range(4)] == [200] * 4
    assert pair.admin.call("DELETE", f"/api/admin/api-keys/{made['id']}").status == 204
    true_wait(read(1, made["key"]))  # refused at once; and that address has no more to try


@pytest.mark.slow
def test_valid_sign_ins_of_an_office_are_never_counted(pair: Nodes) -> None:
    emails = [member(pair)[0] for _ in range(4)]
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda n: sign_in(pair, emails[n % 4], PASSWORD, OWNER, n), range(160))
        assert statuses(list(found)) == {200: 160}


@pytest.mark.slow
def test_sign_ups_of_one_address_are_limited(pair: Nodes) -> None:
    def one(number: int) -> Answer:
        body = {"email": address(), "password": PASSWORD, "name": "Eve", "client": "native"}
        return Client(pair[number % 2]).post("/api/auth/signup", body, **from_(ATTACKER))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(70)))
    assert statuses(answers) == {201: 60, 429: 10}
    true_wait(next(answer for answer in answers if answer.status == 429))
    member(pair, ELSEWHERE)


@pytest.mark.slow
def test_sign_ins_refreshes_and_tickets_of_one_user_are_limited(pair: Nodes) -> None:
    email, _ = member(pair)
    assert statuses([sign_in(pair, email, PASSWORD, OWNER, n) for n in range(62)]) == {
        200: 60,
        429: 2,
    }
    user, other = sign_up(pair[0]), sign_up(pair[1])
    for _ in range(240):
        new_token(user)
    true_wait(Client(pair[1]).post("/api/auth/refresh", {"refresh_token": user.refresh_token}))
    new_token(other)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: user.post("/api/ws/ticket"), range(1210)))
    assert statuses(answers) == {201: 1200, 429: 10}
    true_wait(user.post("/api/ws/ticket"))
    assert other.post("/api/ws/ticket").status == 201


@pytest.mark.slow
def test_of_invalid_tickets_a_hundred_are_answered_and_a_valid_one_opens(
    pair: Nodes,
) -> None:
    user = sign_up(pair[0])

    async def code(number: int, ticket: str, by_message: bool) -> int:
        query = "" if by_message else f"?ticket={ticket}"
        headers = from_(ATTACKER)
        async with connect(pair[number % 2], query, additional_headers=headers) as socket:
            if by_message:
                frame = {"event": "user-join", "data": {"auth": {"token": ticket}}}
                await socket.send(json.dumps(frame))
            first = await receive(socket)
            return 0 if first["event"] == "joined" else await close_code(socket)

    async def work() -> None:
        junk = [f"{'td'[n % 2]}.{secrets.token_urlsafe(48)}" for n in range(110)]
        found = await asyncio.gather(*(code(n, t, n % 3 == 0) for n, t in enumerate(junk)))
        assert Counter(found) == {4401: 100, 4429: 10}
        assert await code(0, user.ticket(), False) == 0
        assert await code(1, user.ticket(), True) == 0

    asyncio.run(work())


@pytest.mark.slow
def test_of_invalid_links_a_hundred_are_answered_and_a_valid_one_sets_the_password(
    pair: Nodes,
) -> None:
    email = address()
    made = pair.admin.post("/api/admin/users", {"email": email, "name": "Grace"})
    token = made.body["set_password_url"].rpartition("=")[2]

    def reset(number: int, token: str, ip: str = ATTACKER) -> Answer:
        body = {"token": token, "new_password": f"{PASSWORD} {number}"}
        return Client(pair[number % 2]).post("/api/auth/password/reset", body, **from_(ip))

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda n: reset(n, secrets.token_urlsafe(40)), range(120)))
        assert statuses(answers) == {403: 100, 429: 20}
        true_wait(next(answer for answer in answers if answer.status == 429))
        # Of twenty tries with the good one, from there and from elsewhere, one counts.
        good = list(pool.map(lambda n: reset(n, token, (ATTACKER, OWNER)[n % 4 > 1]), range(20)))
    assert statuses(good)[204] == 1
    assert set(statuses(good)) <= {204, 403, 429}
    number = [answer.status for answer in good].index(204)
    assert sign_in(pair, email, f"{PASSWORD} {number}", OWNER).status == 200
