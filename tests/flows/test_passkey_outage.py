"""Passkeys on two real nodes while Redis is unavailable: each challenge works once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.checks import problem
from tests.support.databases import kinds, slow
from tests.support.nodes import Nodes, at, nodes
from tests.support.server import Answer, Client, free_port, sign_up, wait_until
from tests.support.soft_passkey import SoftPasskey

# Several nodes are run on PostgreSQL, as a rule.
database_kind = kinds("postgresql", slow("sqlite"))
PAGE = "http://localhost:{port}"
"""Passkeys need the name of a host."""
TRIES = 50


@pytest.fixture
def both(database_kind: str) -> Iterator[Nodes]:
    public_url = PAGE.format(port=free_port())
    with nodes(database_kind, PUBLIC_URL=public_url) as running:
        yield running


def is_fallback(both: Nodes, expected: bool) -> bool:
    """Whether both nodes go on without Redis, or with it again."""
    found = [Client(node).get("/readyz").body["redis"] == "fallback" for node in both]
    return found == [expected] * 2


def with_passkey(client: Client, page: str) -> SoftPasskey:
    """A new passkey of somebody who is signed in."""
    key = SoftPasskey(page)
    options = client.post("/api/auth/passkeys/options").body["publicKey"]
    made = client.post("/api/auth/passkeys", {"credential": key.create(options)})
    assert made.status == 201, made.text
    return key


def signature(client: Client, key: SoftPasskey) -> dict[str, Any]:
    """For options that a node gives now."""
    return key.get(client.post("/api/auth/passkey/options").body["publicKey"])


def sign_in(client: Client, credential: dict[str, Any]) -> Answer:
    body = {"credential": credential, "client": "native"}
    return client.post("/api/auth/passkey/login", body)


def test_a_passkey_signs_in_during_an_outage_and_each_challenge_once(both: Nodes) -> None:
    page = str(both.settings["PUBLIC_URL"])
    ada = sign_up(both[0])
    key = with_passkey(ada, page)
    one, other = Client(both[0]), Client(both[1])
    used, unused = signature(one, key), signature(one, key)
    assert sign_in(other, used).status == 200
    both.redis.kill()
    wait_until(lambda: is_fallback(both, True))
    for node in (one, other):
        problem(sign_in(node, used), 401, "unauthenticated")
    assert sign_in(other, unused).body["user"]["id"] == ada.user["id"], "of before the outage"
    during = signature(one, key)
    done = sign_in(other, during)
    assert done.status == 200, done.text
    session = Client(both[0], done.body["access_token"])
    assert session.get("/api/auth/me").body["id"] == ada.user["id"]
    second = with_passkey(at(both[1], ada), page)
    assert sign_in(one, signature(other, second)).body["user"]["id"] == ada.user["id"]
    for credential in (used, unused, during):
        for node in (one, other):
            problem(sign_in(node, credential), 401, "unauthenticated")
    both.redis.start()
    wait_until(lambda: is_fallback(both, False))
    for credential in (used, unused, during):
        for node in (one, other):
            problem(sign_in(node, credential), 401, "unauthenticated")
    assert sign_in(one, signature(other, key)).status == 200


def test_of_parallel_uses_of_one_challenge_on_two_nodes_during_an_outage_one_signs_in(
    both: Nodes,
) -> None:
    ada = sign_up(both[0])
    key = with_passkey(ada, str(both.settings["PUBLIC_URL"]))
    both.redis.kill()
    wait_until(lambda: is_fallback(both, True))
    credential = signature(Client(both[0]), key)
    with ThreadPoolExecutor(16) as pool:
        tries = [pool.submit(sign_in, Client(both[n % 2]), credential) for n in range(TRIES)]
        found = [each.result().status for each in tries]
    assert found.count(200) == 1
    assert set(found) <= {200, 401, 429}, "429: so many refused ones from one address"
    items = ada.get("/api/sessions").body["items"]
    assert [row["method"] for row in items].count("passkey") == 1
