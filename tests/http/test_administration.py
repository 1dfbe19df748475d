"""What administrators read: one account, a search, the settings, and the providers."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.provider import provider
from tests.support.server import (
    Answer,
    Client,
    Usher,
    bearer,
    connect,
    event,
    sign_up,
    usher,
)

SECRETS = {"JWT_SECRETS": "j" * 40, "SMTP_URL": "smtp://u:hunter2hunter2@127.0.0.1:2525"}
Installation = tuple[Usher, Client]


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[Installation]:
    with provider() as op:
        settings = {
            "OAUTH_PROVIDERS": "idp,gone",
            "OAUTH_IDP_ISSUER": op.issuer,
            "OAUTH_IDP_CLIENT_ID": "us",
            "OAUTH_IDP_CLIENT_SECRET": "s3cret-of-the-client",
            "OAUTH_GONE_ISSUER": "http://127.0.0.1:9",
            "OAUTH_GONE_CLIENT_ID": "us",
            "OAUTH_GONE_CLIENT_SECRET": "s3cret-of-the-client",
            "MAIL_FROM": "usher@example.org",
        }
        with usher(database_kind, **settings, **SECRETS) as server:
            yield server, sign_up(server)


CALLS = [
    ("GET", "overview"),
    ("GET", "settings"),
    ("GET", "providers"),
    ("POST", "providers/idp/check"),
    ("GET", "users/x"),
    ("GET", "users?q=x"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_only_administrators_may(installation: Installation, method: str, path: str) -> None:
    server, _ = installation
    plain_refusal(sign_up(server).call(method, f"/api/admin/{path}"), 403, "forbidden")
    plain_refusal(Client(server).call(method, f"/api/admin/{path}"), 401, "unauthenticated")


# ---- one account ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_an_account_is_shown_with_its_sessions_and_their_sockets(
    installation: Installation,
) -> None:
    server, admin = installation
    user = sign_up(server)
    async with connect(server, subprotocols=bearer(user.token)) as socket:
        await event(socket, "joined")
        answer = admin.get(f"/api/admin/users/{user.user['id']}")
    assert answer.status == 200
    shown = answer.body
    assert {**user.user, "disabled": False}.items() <= shown.items()
    assert (shown["has_password"], shown["second_factor"], shown["passkeys"]) == (True, False, 0)
    assert (shown["providers"], shown["email_verified"]) == ([], False)
    [session] = shown["sessions"]
    assert session["live_sockets"] == 1
    assert session["method"] == "password"
    assert b"argon2" not in answer.text
    plain_refusal(admin.get("/api/admin/users/nobody"), 404, "not_found")


# ---- search ---------------------------------------------------------------------------------


def named(server: Usher, name: str) -> str:
    """An account with this name; returns its id."""
    client = sign_up(server)
    answer = client.call("PATCH", "/api/auth/me", {"name": name})
    assert answer.status == 200, answer
    return str(client.user["id"])


def found(admin: Client, words: str) -> list[str]:
    answer = admin.get(f"/api/admin/users?q={quote(words)}")
    assert answer.status == 200, answer
    return [item["id"] for item in answer.body["items"]]


def test_accounts_are_found_by_parts_of_name_and_address_and_by_id(
    installation: Installation,
) -> None:
    server, admin = installation
    first, second = named(server, "Zoë Quillfeather"), named(server, "Zora 100%_Quill")
    assert found(admin, "quill") == [second, first], "newest first"
    assert found(admin, "QUILLF") == [first]
    assert found(admin, "zoë") == found(admin, "ZOË") == [first]
    assert found(admin, "100%_") == [second], "these have no meaning of their own"
    assert found(admin, "%") == [second]
    assert found(admin, "\\") == found(admin, "'; --") == []
    assert found(admin, first) == [first]
    assert admin.user["id"] in found(admin, admin.user["email"][:12].upper())
    assert found(admin, "  quillf ") == [first]


def test_what_is_found_comes_in_pages_newest_first(installation: Installation) -> None:
    server, admin = installation
    made = [named(server, f"Heron {n}") for n in range(5)]
    for query in ("q=heron", "order=newest"):
        seen: list[str] = []
        after = ""
        while len(seen) < 5:
            answer = admin.get(f"/api/admin/users?{query}&limit=2{after}")
            page = answer.body
            seen += [item["id"] for item in page["items"]]
            after = f"&after={quote(page['next'])}" if "next" in page else ""
            if not after:
                break
        assert seen[:5] == made[::-1]


@pytest.mark.parametrize(
    "query", ["q=" + "x" * 101, "q=a%E2%80%AEb", "q=a&after=x", "q=a&after=1~x"]
)
def test_a_search_that_cannot_be_is_refused(installation: Installation, query: str) -> None:
    problem(installation[1].get(f"/api/admin/users?{query}"), 400, "bad_request")


def test_a_key_does_not_search(installation: Installation) -> None:
    server, admin = installation
    for scope, status in (("users", 403), ("read", 200)):
        made = admin.post("/api/admin/api-keys", {"name": "k", "scopes": [scope]})
        key = Client(server, token=made.body["key"])
        assert key.get("/api/admin/users?q=a").status == status


# ---- settings -------------------------------------------------------------------------------


def test_settings_are_shown_with_their_source_and_without_secrets(
    installation: Installation,
) -> None:
    _, admin = installation
    answer = admin.get("/api/admin/settings")
    assert answer.status == 200
    rows = {row["name"]: row for row in answer.body["items"]}
    assert rows["USHER_MAIL_FROM"]["value"] == "usher@example.org"
    assert rows["USHER_MAIL_FROM"]["source"] == "USHER_MAIL_FROM"
    assert rows["USHER_STEP_UP_SECONDS"]["value"] == "900"
    assert rows["USHER_STEP_UP_SECONDS"]["source"] == "default"
    assert rows["USHER_OAUTH_IDP_CLIENT_ID"]["value"] == "us"
    secret = rows["USHER_JWT_SECRETS"]
    assert (secret["value"], secret["secret"], secret["is_set"]) == (None, True, True)
    assert rows["USHER_TLS_KEY"]["is_set"] is False
    text = answer.text.decode()
    for word in (*SECRETS.values(), "hunter2", "s3cret"):
        assert word not in text


# ---- providers ------------------------------------------------------------------------------


def checked(admin: Client, name: str) -> Answer:
    return admin.post(f"/api/admin/providers/{name}/check")


def test_providers_say_how_they_are(installation: Installation) -> None:
    server, admin = installation
    rows = {row["name"]: row for row in admin.get("/api/admin/providers").body["items"]}
    assert rows["idp"]["state"] == rows["gone"]["state"] == "unknown"
    assert rows["idp"]["redirect_uri"] == f"{server.origin}/oauth/idp/callback"
    good, gone = checked(admin, "idp"), checked(admin, "gone")
    assert (good.status, good.body["state"], good.body["problem"]) == (200, "ok", None)
    assert (gone.status, gone.body["state"]) == (200, "unavailable")
    assert gone.body["problem"]
    rows = {row["name"]: row for row in admin.get("/api/admin/providers").body["items"]}
    assert [rows[name]["state"] for name in ("idp", "gone")] == ["ok", "unavailable"]
    assert "s3cret" not in str(rows)
    plain_refusal(checked(admin, "other"), 404, "not_found")


def test_channels_are_found_by_their_name(installation: Installation) -> None:
    server, admin = installation
    user = sign_up(server)
    made = {
        name: user.post("/api/channels", {"name": name}).body["id"]
        for name in ("Tea room", "Steam 50%", "Coffee")
    }
    for client in (user, admin):
        answer = client.get("/api/channels?q=TEA&limit=1")
        assert [item["id"] for item in answer.body["items"]] == [made["Steam 50%"]]
        answer = client.get(f"/api/channels?q=TEA&limit=1&after={quote(answer.body['next'])}")
        assert [item["id"] for item in answer.body["items"]] == [made["Tea room"]]
        assert "next" not in answer.body
    assert sign_up(server).get("/api/channels?q=tea").body["items"] == []
    assert [i["id"] for i in admin.get("/api/channels?q=50%25").body["items"]] == [
        made["Steam 50%"]
    ]
    problem(user.get(f"/api/channels?q={'x' * 81}"), 400, "bad_request")
