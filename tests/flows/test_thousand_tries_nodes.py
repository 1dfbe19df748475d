"""Of a thousand concurrent uses of one challenge on two real nodes exactly one succeeds.

test_thousand_tries.py has codes and an invitation over HTTP. Over HTTP, the hashing of passwords
lets few uses of an invitation meet; tests/registration and tests/factors have both without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.authenticator import set_up
from tests.support.databases import KINDS, kinds
from tests.support.nodes import Nodes, nodes
from tests.support.server import PASSWORD, Answer, Client, free_port, sign_up
from tests.support.soft_passkey import SoftPasskey

pytestmark = pytest.mark.slow
database_kind = kinds(*KINDS)
TRIES, AT_ONCE = 1000, 50


@pytest.fixture(scope="module")
def both(database_kind: str) -> Iterator[Nodes]:
    # Passkeys need the name of a host.
    public_url = f"http://localhost:{free_port()}"
    with nodes(database_kind, PUBLIC_URL=public_url) as running:
        yield running


def only_success(both: Nodes, attempt: Callable[[Client, int], Answer], refusal: str) -> Answer:
    """A thousand clients try on both nodes; returns the one answer that is no refusal."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tries = [pool.submit(attempt, Client(both[n % 2]), n) for n in range(TRIES)]
        answers = [each.result() for each in tries]
    good = [answer for answer in answers if answer.status < 400]
    refused = [answer for answer in answers if answer.status >= 400]
    found = Counter(answer.body["code"] for answer in refused)
    assert len(good) == 1, found
    # A busy machine may not get to a few of them. It says so.
    assert all(a.status == 503 or a.body["code"] == refusal for a in refused), found
    assert found[refusal] > TRIES // 2
    return good[0]


def test_of_a_thousand_answers_to_one_login_challenge_one_signs_in(both: Nodes) -> None:
    ada = sign_up(both[0])
    app = set_up(ada)
    body = {"email": ada.user["email"], "password": PASSWORD, "client": "native"}
    challenge = Client(both[0]).post("/api/auth/login", body).body["challenge"]
    codes = list(app.codes)  # all of them are right, so that the challenge alone decides

    def attempt(client: Client, number: int) -> Answer:
        answer = {"challenge": challenge, "code": codes[number % len(codes)]}
        return client.post("/api/auth/second-factor", answer)

    good = only_success(both, attempt, "unauthenticated")
    assert good.body["user"] == ada.user
    assert sessions(ada) == 2
    assert ada.get("/api/auth/totp").body["recovery_codes_left"] == len(codes) - 1


def test_of_a_thousand_uses_of_one_passkey_challenge_one_signs_in(both: Nodes) -> None:
    ada = sign_up(both[0])
    key = SoftPasskey(str(both.settings["PUBLIC_URL"]))
    options = ada.post("/api/auth/passkeys/options").body["publicKey"]
    stored = ada.post("/api/auth/passkeys", {"credential": key.create(options)})
    assert stored.status == 201, stored.text
    asked = Client(both[0]).post("/api/auth/passkey/options").body["publicKey"]
    body = {"credential": key.get(asked), "client": "native"}

    def attempt(client: Client, _: int) -> Answer:
        return client.post("/api/auth/passkey/login", body)

    good = only_success(both, attempt, "unauthenticated")
    assert good.body["user"] == ada.user
    assert sessions(ada) == 2


def sessions(client: Client) -> int:
    """How many login sessions somebody has."""
    return len(client.get("/api/sessions").body["items"])
