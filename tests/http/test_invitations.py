"""Who may open an account, over HTTP: SIGNUP, EMAIL_DOMAINS and invitations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.mail_server import Mailbox, html_of, text_of
from tests.support.provider import Provider, provider
from tests.support.raw import assert_quiet
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    bearer,
    connect,
    event,
    sign_up,
    usher,
    wait_until,
)
from tests.support.sign_in import back_from, settings_for

INVITATIONS = "/api/admin/invitations"
Installation = tuple[Usher, Client]


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def installation(database_kind: str, op: Provider) -> Iterator[Installation]:
    """An Usher where an invitation is needed, and its administrator."""
    chosen = settings_for(op, "campus")
    with usher(database_kind, SIGNUP="invite", EMAIL_DOMAINS="example.org", **chosen) as server:
        assert Client(server).get("/api/auth/signup").body["signup"] == "open"
        admin = sign_up(server)
        assert admin.user["role"] == "admin"
        yield server, admin
        assert_quiet(server.log)


def invite(admin: Client, **body: Any) -> dict[str, Any]:
    answer = admin.post(INVITATIONS, body)
    assert answer.status == 201, answer
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.body
    return found


def token_of(made: dict[str, Any]) -> str:
    return str(made["url"]).partition("#invitation=")[2]


def try_sign_up(server: Usher, invitation: str = "", email: str = "") -> Answer:
    body = {"email": email or address(), "password": PASSWORD, "name": "Ada"}
    more = {"invitation": invitation} if invitation else {}
    return Client(server).post("/api/auth/signup", {**body, **more, "client": "native"})


def test_an_invitation_opens_one_account_and_the_trail_says_so(installation: Installation) -> None:
    server, admin = installation
    assert Client(server).get("/api/auth/signup").body["signup"] == "invite"
    plain_refusal(try_sign_up(server), 403, "invitation_needed")
    email = address()
    made = invite(admin, email=email.upper(), expires_in=3600)
    assert (made["email"], made["role"], made["created_by"]) == (email, "user", admin.user["id"])
    assert made["expires_at"] - made["created_at"] == pytest.approx(3600)
    assert urlsplit(made["url"]).path == "/sign-in"
    listed = admin.get(INVITATIONS).body["items"]
    assert {k: v for k, v in made.items() if k != "url"} in listed
    token = token_of(made)
    assert token not in repr(listed)
    plain_refusal(try_sign_up(server, token), 403, "invitation_refused")
    done = try_sign_up(server, token, email)
    assert (done.status, done.body["user"]["role"]) == (201, "user")
    plain_refusal(try_sign_up(server, token, email), 403, "invitation_refused")
    assert made["id"] not in {row["id"] for row in admin.get(INVITATIONS).body["items"]}

    def used() -> bool:
        rows = admin.get("/api/admin/audit?kind=invitation.used").body["items"]
        mine = [row for row in rows if row["target"] == made["id"]]
        return [row["subject"] for row in mine] == [done.body["user"]["id"]]

    wait_until(used)
    rows = admin.get("/api/admin/audit?kind=invitation.created").body["items"]
    assert made["id"] in {row["target"] for row in rows}
    assert token not in server.log
    assert email not in server.log


def test_an_invitation_with_an_address_is_mailed_there_and_the_mails_link_works(
    installation: Installation,
) -> None:
    server, admin = installation
    email = address()
    made = invite(admin, email=email, role="admin")
    mail = Mailbox(server.data_dir, email).next("invitation")
    (link,) = {word for word in text_of(mail).split() if "#invitation=" in word}
    assert str(mail["To"]) == email
    assert link == made["url"]
    assert link in html_of(mail)
    assert link.startswith(f"{server.pages}/sign-in#invitation=")
    page = Client(server).get(urlsplit(link).path)
    assert (page.status, page.headers.get_content_type()) == (200, "text/html")
    token = link.partition("#invitation=")[2]
    done = try_sign_up(server, token, email)
    assert (done.status, done.body["user"]["role"]) == (201, "admin")
    plain_refusal(try_sign_up(server, token, email), 403, "invitation_refused")
    assert token not in server.log


def test_an_invitation_without_an_address_is_not_mailed(installation: Installation) -> None:
    server, admin = installation
    token = token_of(invite(admin))
    email = address()
    invite(admin, email=email)  # enqueued after it
    Mailbox(server.data_dir, email).next("invitation")
    mails = [path.read_text() for path in (server.data_dir / "mail").glob("*.eml")]
    assert not any(token in mail for mail in mails)


def test_only_administrators_invite_and_only_with_what_can_be(installation: Installation) -> None:
    server, admin = installation
    key = admin.post("/api/admin/api-keys", {"name": "k", "scopes": ["users", "read"]}).body["key"]
    plain_refusal(Client(server, token=key).post(INVITATIONS, {}), 401, "unauthenticated")
    plain_refusal(Client(server).post(INVITATIONS, {}), 401, "unauthenticated")
    anybody = try_sign_up(server, token_of(invite(admin))).body["access_token"]
    plain_refusal(Client(server, token=anybody).post(INVITATIONS, {}), 403, "forbidden")
    plain_refusal(Client(server, token=anybody).get(INVITATIONS), 403, "forbidden")
    for body in ({"role": "root"}, {"expires_in": 1}, {"expires_in": 1e12}, {"email": "x"}):
        problem(admin.post(INVITATIONS, body), 400, "bad_request")
    plain_refusal(
        admin.post(INVITATIONS, {"email": "ada@example.com"}), 403, "email_domain_refused"
    )


def test_invitations_are_listed_by_pages_and_revoked(installation: Installation) -> None:
    server, admin = installation
    made = [invite(admin, role="admin") for _ in range(3)]
    seen: list[str] = []
    after = ""
    while True:
        page = admin.get(f"{INVITATIONS}?limit=2{after}").body
        seen += [row["id"] for row in page["items"]]
        if "next" not in page:
            break
        after = f"&after={page['next']}"
    assert seen[:3] == [one["id"] for one in reversed(made)]
    assert len(set(seen)) == len(seen)
    assert admin.call("DELETE", f"{INVITATIONS}/{made[0]['id']}").status == 204
    plain_refusal(admin.call("DELETE", f"{INVITATIONS}/{made[0]['id']}"), 404, "not_found")
    plain_refusal(try_sign_up(server, token_of(made[0])), 403, "invitation_refused")
    assert try_sign_up(server, token_of(made[1])).body["user"]["role"] == "admin"


def test_an_address_of_another_domain_is_refused_whether_or_not_it_is_known(
    installation: Installation,
) -> None:
    server, admin = installation
    token = token_of(invite(admin))
    plain_refusal(try_sign_up(server, token, "ada@example.com"), 403, "email_domain_refused")
    body = {"email": "ada@example.com", "name": "Ada"}
    plain_refusal(admin.post("/api/admin/users", body), 403, "email_domain_refused")
    assert try_sign_up(server, token).status == 201


def test_an_invitation_survives_a_provider_sign_up_without_being_in_a_url(
    installation: Installation, op: Provider
) -> None:
    server, admin = installation
    op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
    refused = Client(server, browser=True)
    location = refused.get("/oauth/campus/login").headers["Location"]
    assert refused.get(back_from(location)).status == 403
    browser = Client(server, browser=True)
    token = token_of(invite(admin, email=op.user["email"], role="admin"))
    path = "/api/oauth/providers/campus/signup"
    plain_refusal(browser.post(path, {"invitation": "invented"}), 403, "invitation_refused")
    plain_refusal(browser.post(path, {"invitation": token}, Origin="https://evil.example"),
                  403, "origin_refused")  # fmt: skip
    problem(browser.post(path.replace("campus", "x"), {"invitation": token}), 404, "not_found")
    problem(browser.post(path, {"invitation": token, "next": "https://evil.example"}),
            400, "bad_request")  # fmt: skip
    answer = browser.post(path, {"invitation": token})
    assert answer.status == 200, answer
    assert token not in answer.body["location"]
    assert token not in repr(browser.cookies)
    done = browser.get(back_from(answer.body["location"]))
    assert (done.status, done.headers["Location"]) == (302, "/")
    me = browser.get("/api/auth/me").body
    assert (me["email"], me["role"]) == (op.user["email"], "admin")
    plain_refusal(browser.post(path, {"invitation": token}), 403, "invitation_refused")
    assert token not in server.log


def test_where_sign_up_is_closed_administrators_still_open_accounts() -> None:
    with usher("sqlite", SIGNUP="closed") as server:
        admin = sign_up(server)
        assert Client(server).get("/api/auth/signup").body["signup"] == "closed"
        plain_refusal(try_sign_up(server), 403, "signup_closed")
        plain_refusal(try_sign_up(server, email=admin.user["email"]), 403, "signup_closed")
        plain_refusal(try_sign_up(server, token_of(invite(admin))), 403, "signup_closed")
        made = admin.post("/api/admin/users", {"email": address(), "name": "Grace"})
        assert made.status == 201


@pytest.mark.gen_test
async def test_the_owner_of_an_address_gets_the_account_and_the_squatters_socket_is_cut(
    installation: Installation, op: Provider
) -> None:
    server, admin = installation
    email = address()
    squatter = try_sign_up(server, token_of(invite(admin)), email).body
    op.user = {"sub": address(), "email": email, "email_verified": True, "name": "Grace"}
    async with connect(server, subprotocols=bearer(squatter["access_token"])) as socket:
        await event(socket, "joined")
        owner = sign_in_there(server)
        assert (await event(socket, "closing"))["code"] == 4410
    me = owner.get("/api/auth/me").body
    assert (me["id"], me["name"]) == (squatter["user"]["id"], "Grace")
    login = {"email": email, "password": PASSWORD}
    plain_refusal(Client(server).post("/api/auth/login", login), 401, "unauthenticated")
    refresh = {"refresh_token": squatter["refresh_token"]}
    plain_refusal(Client(server).post("/api/auth/refresh", refresh), 401, "unauthenticated")
    assert len(owner.get("/api/sessions").body["items"]) == 1
    query = f"/api/admin/audit?kind=account.handed_over&subject={me['id']}"
    wait_until(lambda: bool(admin.get(query).body["items"]))
    (row,) = admin.get(query).body["items"]
    assert row["reason"] == "oauth:campus"


def sign_in_there(server: Usher) -> Client:
    browser = Client(server, browser=True)
    location = browser.get("/oauth/campus/login").headers["Location"]
    assert browser.get(back_from(location)).status == 302
    return browser
