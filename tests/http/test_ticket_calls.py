"""`POST /api/ws/ticket`: who gets a ticket, and how long it is valid."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.checks import outcome, plain_refusal
from tests.support.server import (
    Client,
    Usher,
    address,
    log_in,
    new_token,
    sign_up,
    usher,
)


@pytest.mark.parametrize("browser", [False, True], ids=["native", "browser"])
@pytest.mark.gen_test
async def test_a_ticket_is_opaque_short_lived_and_opens_one_socket(
    server: Usher, browser: bool
) -> None:
    client = sign_up(server, browser=browser)
    answer = client.post("/api/ws/ticket")
    assert answer.status == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.body) == {"ticket", "expires_in"}
    assert answer.body["expires_in"] == 30
    ticket = answer.body["ticket"]
    # 128 bits at the least (OWASP), and nothing that has to be escaped in a URL.
    assert len(ticket) >= 24
    assert ticket.replace(".", "").replace("-", "").replace("_", "").isalnum()
    assert client.user["id"] not in ticket
    assert await outcome(server, f"?ticket={ticket}") == 0
    assert await outcome(server, f"?ticket={ticket}") == 4401


def test_no_two_tickets_are_the_same(server: Usher) -> None:
    client = sign_up(server)
    assert len({client.ticket() for _ in range(50)}) == 50


@pytest.mark.gen_test
async def test_a_ticket_is_valid_as_long_as_the_setting_says(database_kind: str) -> None:
    with usher(database_kind, TICKET_TTL_SECONDS=2) as server:
        client = sign_up(server)
        answer = client.post("/api/ws/ticket")
        assert answer.body["expires_in"] == 2
        ticket = answer.body["ticket"]
        await asyncio.sleep(2.1)  # only time expires it
        assert await outcome(server, f"?ticket={ticket}") == 4401
        assert await outcome(server, f"?ticket={client.ticket()}") == 0


@pytest.mark.gen_test
async def test_a_ticket_ends_with_its_session(server: Usher) -> None:
    email = address()
    client, other = sign_up(server, email=email), log_in(server, email)
    ticket, others = client.ticket(), other.ticket()
    assert client.post("/api/auth/logout").status == 204
    assert await outcome(server, f"?ticket={ticket}") == 4401
    assert await outcome(server, f"?ticket={others}") == 0


@pytest.mark.gen_test
async def test_a_ticket_outlives_a_refresh(server: Usher) -> None:
    client = sign_up(server)
    ticket = client.ticket()
    new_token(client)
    assert await outcome(server, f"?ticket={ticket}") == 0


@pytest.mark.gen_test
async def test_a_ticket_opens_no_more_than_the_token_it_was_got_with(database_kind: str) -> None:
    with usher(database_kind, ACCESS_TOKEN_TTL_SECONDS=3) as server:
        ticket = sign_up(server).ticket()
        await asyncio.sleep(3.1)  # only time expires a token
        assert await outcome(server, f"?ticket={ticket}") == 4419


def test_a_ticket_is_no_access_token(server: Usher) -> None:
    ticket = sign_up(server).ticket()
    plain_refusal(Client(server, token=ticket).get("/api/auth/me"), 401, "unauthenticated")
    answer = Client(server).post("/api/auth/refresh", {"refresh_token": ticket})
    plain_refusal(answer, 401, "unauthenticated")


def test_a_ticket_in_the_query_of_a_call_is_no_credential(server: Usher) -> None:
    ticket = sign_up(server).ticket()
    answer = Client(server).get(f"/api/auth/me?ticket={ticket}&access_token={ticket}")
    plain_refusal(answer, 401, "unauthenticated")


def test_a_ticket_needs_a_credential(server: Usher) -> None:
    plain_refusal(Client(server).post("/api/ws/ticket"), 401, "unauthenticated")


def test_a_ticket_is_asked_for_by_post_only(server: Usher) -> None:
    # A GET can be sent by any page, with the cookie of the user.
    browser = sign_up(server, browser=True)
    plain_refusal(browser.get("/api/ws/ticket"), 405, "method_not_allowed")


@pytest.mark.gen_test
async def test_a_ticket_of_before_a_restart_sends_for_another_and_a_used_one_stays_used(
    database_kind: str,
) -> None:
    with usher(database_kind, PORT=0) as server:
        client = sign_up(server)
        unused, used = client.ticket(), client.ticket()
        assert await outcome(server, f"?ticket={used}") == 0
        server.restart()
        assert await outcome(server, f"?ticket={used}") == 4401
        # The embedded Redis has started anew, too, and may have forgotten that it was used.
        assert await outcome(server, f"?ticket={unused}") == 4503
        assert await outcome(server, f"?ticket={client.ticket()}") == 0
