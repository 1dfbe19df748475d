"""Of a thousand concurrent uses of a single-use credential exactly one succeeds, over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.authenticator import App, set_up
from tests.support.server import PASSWORD, Answer, Client, Usher, address, sign_up, usher

pytestmark = pytest.mark.slow

TRIES, AT_ONCE = 1000, 32
REFUSED = {401, 403, 429, 503}


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    """Without limits, which would refuse most of the tries before they count."""
    limits = dict.fromkeys(("LIMIT_SIGNUPS", "LIMIT_WRONG_SIGNINS", "LIMIT_SIGNINS"), "0")
    with usher("sqlite", **limits) as running:
        sign_up(running)  # the administrator
        yield running


def successes(attempt: Callable[[int], Answer], good: int) -> int:
    """How many of a thousand succeed. All others are refused, and most not for want of room."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = Counter(answer.status for answer in pool.map(attempt, range(TRIES)))
    assert set(found) <= REFUSED | {good}, found
    assert found[429] + found[503] < TRIES / 2, found
    return found[good]


def with_app(server: Usher) -> tuple[str, Client, App]:
    email = address()
    client = sign_up(server, email=email)
    return email, client, set_up(client)


def challenge(server: Usher, email: str) -> str:
    body = {"email": email, "password": PASSWORD, "client": "native"}
    answer = Client(server).post("/api/auth/login", body)
    assert answer.body["code"] == "second_factor_needed"
    return str(answer.body["challenge"])


def answer_to(server: Usher, given: str, code: str) -> Answer:
    body = {"challenge": given, "code": code, "client": "native"}
    return Client(server).post("/api/auth/second-factor", body)


def test_of_one_login_challenge(server: Usher) -> None:
    email, _, app = with_app(server)
    given, code = challenge(server, email), app.code()
    assert successes(lambda _: answer_to(server, given, code), 200) == 1


@pytest.mark.parametrize("kind", ["totp", "recovery"])
def test_of_one_code_each_with_a_challenge_of_its_own(server: Usher, kind: str) -> None:
    email, _, app = with_app(server)
    challenges = [challenge(server, email) for _ in range(AT_ONCE)]
    code = app.code() if kind == "totp" else app.recovery_code()
    # A challenge takes five answers: the thirty-two of them are presented in turn.
    tried = successes(lambda number: answer_to(server, challenges[number % AT_ONCE], code), 200)
    assert tried == 1


@pytest.mark.parametrize("kind", ["totp", "recovery"])
def test_of_one_code_for_a_step_up(server: Usher, kind: str) -> None:
    _, client, app = with_app(server)
    code = app.code() if kind == "totp" else app.recovery_code()
    assert successes(lambda _: client.post("/api/auth/step-up", {"code": code}), 200) == 1


def test_of_one_invitation() -> None:
    with usher("sqlite", SIGNUP="invite", LIMIT_SIGNUPS="0") as server:
        admin = sign_up(server)
        link = admin.post("/api/admin/invitations", {}).body["url"]
        token = link.partition("#invitation=")[2]
        assert token

        def use(_: int) -> Answer:
            return Client(server).post(
                "/api/auth/signup",
                {
                    "email": address(),
                    "password": PASSWORD,
                    "name": "Guest",
                    "invitation": token,
                    "client": "native",
                },
            )

        assert successes(use, 201) == 1
