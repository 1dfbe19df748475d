"""Addresses that are changed, and brought back by the mail to the former one."""

from __future__ import annotations

import time

import pyotp

from tests.http.mails import (
    CONFIRM,
    EMAIL,
    NEW,
    RESET,
    UNDO,
    code,
    installation,
    is_verified,
    mailbox,
    new_account,
    post,
    verified,
)
from tests.support.mail_server import Mailbox, link_of, text_of
from tests.support.server import PASSWORD, Client, Usher, address, log_in, sign_up, usher

__all__ = ["installation"]


def moved(server: Usher) -> tuple[Client, str, str, Mailbox]:
    """Somebody who has changed their address: their client, both addresses, the former mailbox."""
    client, former, box = verified(server)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    assert box.next("address_change_asked")
    token = mailbox(server, new).token("change_address")
    assert client.post(CONFIRM, {"token": token}).status == 204
    return client, former, new, box


def test_an_address_changes_when_the_new_one_is_confirmed(installation: Usher) -> None:
    client, former, box = verified(installation)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    token = mailbox(installation, new).token("change_address")
    assert client.get("/api/auth/me").body["email"] == former
    alone = post(installation, CONFIRM, token=token)
    assert code(alone) == (403, "reauthentication_needed"), "it may have been mistyped"
    assert code(sign_up(installation).post(CONFIRM, {"token": token}))[0] == 403
    assert post(installation, CONFIRM, token=token, password=PASSWORD).status == 204
    assert client.get("/api/auth/me").body["email"] == new
    assert link_of(box.next("address_changed")).startswith(f"{installation.pages}/undo-email#")
    log_in(installation, new)
    assert post(installation, "/api/auth/login", email=former, password=PASSWORD).status == 401


def test_the_former_address_takes_the_account_back(installation: Usher) -> None:
    thief, former, new, box = moved(installation)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert thief.post("/api/auth/password", body).status == 204
    secret = thief.post("/api/auth/totp", {}).body["secret"]
    confirmed = thief.post("/api/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()})
    assert confirmed.status == 200
    token = box.token("address_changed")
    assert post(installation, UNDO, token=token).status == 204
    assert thief.get("/api/auth/me").status == 401
    for password in (PASSWORD, NEW):
        for email in (former, new):
            answer = post(installation, "/api/auth/login", email=email, password=password)
            assert answer.status == 401
    box.next("address_restored")
    mailbox(installation, new).next("address_restored")
    reset = box.token("reset_password")
    assert post(installation, RESET, token=reset, new_password=NEW).status == 204
    log_in(installation, former, password=NEW)
    assert code(post(installation, UNDO, token=token)) == (403, "link_refused")


def test_a_thief_who_changes_it_twice_cannot_revert_the_owners_undo(installation: Usher) -> None:
    thief, former, second, box = moved(installation)
    third = address()
    assert thief.post(EMAIL, {"email": third}).status == 204
    assert (
        thief.post(CONFIRM, {"token": mailbox(installation, third).token("change_address")}).status
        == 204
    )
    theirs = mailbox(installation, second).token("address_changed")
    assert post(installation, UNDO, token=box.token("address_changed")).status == 204
    assert code(post(installation, UNDO, token=theirs)) == (403, "link_refused")
    assert is_verified(installation, former)


def test_an_address_that_can_be_restored_is_reserved(installation: Usher) -> None:
    _, former, _, box = moved(installation)
    body = {"email": former, "password": PASSWORD, "name": "Eve"}
    assert code(Client(installation).post("/api/auth/signup", body)) == (409, "signup_refused")
    eve, _, _ = verified(installation)
    assert eve.post(EMAIL, {"email": former}).status == 204
    box.next("address_known")
    assert box.count("change_address") == 0
    assert post(installation, UNDO, token=box.token("address_changed")).status == 204


def test_the_response_does_not_reveal_that_another_account_has_the_address(
    installation: Usher,
) -> None:
    client, _, _ = verified(installation)
    _, taken, box = verified(installation)
    answer = client.post(EMAIL, {"email": taken})
    assert (answer.status, answer.text) == (204, b"")
    box.next("address_known")
    assert box.count("change_address") == 0


def test_an_unconfirmed_address_cannot_be_restored(installation: Usher) -> None:
    """It may belong to another person, because of a mistake at the sign-up."""
    client, _, box = new_account(installation)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    token = mailbox(installation, new).token("change_address")
    assert client.post(CONFIRM, {"token": token}).status == 204
    assert "#token=" not in text_of(box.next("address_left"))
    assert box.count("address_changed") == 0
    assert is_verified(installation, new)


def test_a_password_that_changes_meanwhile_invalidates_the_mail(installation: Usher) -> None:
    client, _, _ = verified(installation)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    token = mailbox(installation, new).token("change_address")
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert client.post("/api/auth/password", body).status == 204
    assert code(client.post(CONFIRM, {"token": token})) == (403, "link_refused")


def test_a_change_asks_for_a_fresh_proof(database_kind: str) -> None:
    with usher(database_kind, STEP_UP_SECONDS=1) as server:
        client, _, _ = new_account(server)
        time.sleep(1.2)
        answer = client.post(EMAIL, {"email": address()})
        assert code(answer) == (401, "step_up_needed")
