"""Webhooks of real servers: delivered in order, usually once, and never lost."""

from __future__ import annotations

import asyncio
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.settings.self_signed import CERTIFICATE_FILE, KEY_FILE, make_certificate
from tests.support.nodes import nodes
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    Answer,
    Client,
    Usher,
    address,
    bearer,
    connect,
    log_in,
    sign_up,
    usher,
    wait_until,
)
from tests.support.webhook_receiver import WebhookReceiver, webhook_receiver

HOOKS = "/api/admin/webhooks"
ALL = [
    "user.created",
    "user.changed",
    "user.disabled",
    "user.deleted",
    "session.opened",
    "session.ended",
    "socket.joined",
    "socket.left",
    "channel.changed",
]


@pytest.fixture(scope="module")
def reported(database_kind: str) -> Iterator[tuple[Usher, Client]]:
    """A server that may tell receivers on this machine, and its administrator."""
    with usher(database_kind, WEBHOOK_PRIVATE="on") as server:
        yield server, sign_up(server)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as one:
        yield one


@pytest.fixture
def hook(reported: tuple[Usher, Client]) -> Iterator[Callable[..., Any]]:
    """Makes webhooks, which are deleted behind the test."""
    _, admin = reported
    made: list[str] = []

    def make(receiver: WebhookReceiver, *events: str) -> Any:
        answer = admin.post(HOOKS, {"url": receiver.url, "events": events or ALL})
        assert answer.status == 201, answer
        made.append(answer.body["id"])
        return answer.body

    yield make
    for one in made:
        admin.call("DELETE", f"{HOOKS}/{one}")


def of_user(receiver: WebhookReceiver, user_id: str) -> list[Any]:
    """The events about a user, oldest first."""
    events = [one.event for one in list(receiver.received)]
    return [e for e in events if user_id in (e["data"].get("id"), e["data"].get("user_id"))]


def kinds(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


def deliveries(admin: Client, hook: Any, query: str = "") -> list[Any]:
    found = admin.get(f"{HOOKS}/{hook['id']}/deliveries{query}")
    assert found.status == 200, found
    items: list[Any] = found.body["items"]
    return items


def test_the_events_of_a_user_are_delivered_in_order_and_signed(
    reported: tuple[Usher, Client], hook: Callable[..., Any], receiver: WebhookReceiver
) -> None:
    server, admin = reported
    secret = hook(receiver)["secret"]
    email = address()
    user = sign_up(server, email=email)
    user_id = user.user["id"]
    where = f"/api/admin/users/{user_id}"
    assert user.post("/api/auth/logout").status == 204
    log_in(server, email)
    for change in ({"role": "admin"}, {"disabled": True}, {"disabled": False}):
        assert admin.call("PATCH", where, change).status == 200
    assert admin.call("DELETE", where).status == 204
    wait_until(lambda: "user.deleted" in kinds(of_user(receiver, user_id)))
    events = of_user(receiver, user_id)
    assert kinds(events) == [
        "user.created",
        "session.opened",
        "session.ended",
        "session.opened",
        "user.changed",
        "user.disabled",
        "session.ended",
        "user.changed",
        "user.disabled",
        "session.ended",
        "user.deleted",
    ]
    assert events[0]["data"] == {"id": user_id, "name": "Ada", "role": "user", "disabled": False}
    assert events[1]["data"].keys() == {"user_id", "session_id", "method", "expires_at"}
    assert events[2]["data"] == {
        "user_id": user_id,
        "session_id": events[1]["data"]["session_id"],
        "all": False,
        "but": None,
        "reason": "logout",
    }
    assert events[4]["data"]["changed"] == "role"
    assert events[6]["data"]["all"] is True
    assert events[6]["data"]["session_id"] is None
    assert events[7]["data"]["changed"] == "disabled"
    for one in list(receiver.received):
        assert one.verify(secret)
        assert email.encode() not in one.body
    assert receiver.url.rpartition("/")[2] not in server.log
    assert secret not in server.log


def test_channels_and_sockets_cause_events(
    reported: tuple[Usher, Client], hook: Callable[..., Any], receiver: WebhookReceiver
) -> None:
    server, admin = reported
    member = sign_up(server)
    hook(receiver, "channel.changed", "socket.joined", "socket.left")
    made = admin.post("/api/channels", {"name": "Herons"}).body
    path = f"/api/channels/{made['id']}"
    seat = f"{path}/members/{member.user['id']}"
    assert admin.call("PATCH", path, {"name": "Herons 2"}).status == 200
    assert admin.call("PATCH", path, {"name": "Herons 2"}).status == 200
    assert admin.call("PUT", seat, {"right": "read"}).status == 200
    assert admin.call("PUT", seat, {"right": "read"}).status == 200  # no change: no event
    assert member.call("DELETE", seat).status == 204
    assert admin.call("DELETE", path).status == 204
    # From then on the node knows, too, that somebody wants to hear of sockets.
    wait_until(lambda: receiver.types().count("channel.changed") >= 6)

    async def join() -> None:
        async with connect(server, subprotocols=bearer(member.token)) as socket:
            await socket.recv()

    asyncio.run(join())
    wait_until(lambda: "socket.left" in receiver.types())
    channel = [e.event["data"] for e in receiver.received if e.event["type"] == "channel.changed"]
    assert [e["change"] for e in channel] == [
        "created",
        "updated",
        "updated",
        "member_set",
        "member_left",
        "deleted",
    ]
    assert channel[3]["member"] == {"id": member.user["id"], "right": "read"}
    assert channel[0].keys() == {"id", "name", "private", "owner_id", "change"}
    joined, left = (e for e in of_user(receiver, member.user["id"]))
    assert (joined["type"], left["type"]) == ("socket.joined", "socket.left")
    assert joined["data"]["socket_id"] == left["data"]["socket_id"]
    assert left["data"]["code"] == 1000


def test_a_webhook_gets_the_events_it_subscribed_to(
    reported: tuple[Usher, Client], hook: Callable[..., Any], receiver: WebhookReceiver
) -> None:
    server, admin = reported
    one = hook(receiver, "user.created")
    with webhook_receiver() as other:
        two = hook(other, "session.opened")
        sign_up(server)
        wait_until(lambda: len(receiver.received) == len(other.received) == 1)
        assert (receiver.types(), other.types()) == (["user.created"], ["session.opened"])
        assert receiver.received[0].verify(one["secret"])
        assert other.received[0].verify(two["secret"])
    rows = {row["id"]: row for row in admin.get(HOOKS).body["items"]}
    assert rows[one["id"]]["events"] == ["user.created"]
    assert "secret" not in rows[one["id"]]


@pytest.mark.slow
def test_what_fails_is_tried_again_and_holds_back_its_subject_only(
    reported: tuple[Usher, Client], hook: Callable[..., Any], receiver: WebhookReceiver
) -> None:
    server, admin = reported
    made = hook(receiver, "user.created", "session.opened")
    refused: list[str] = []

    def first_of_each(event: Any, _: object) -> int:
        about = event["data"].get("id")
        if event["type"] == "user.created" and about == refused_id and len(refused) < 1:
            refused.append(about)
            return 500
        return 204

    refused_id = ""
    receiver.answer = lambda event, _: 500 if event["type"] == "user.created" else 204
    one = sign_up(server)
    wait_until(lambda: "user.created" in receiver.types())
    refused_id = one.user["id"]
    receiver.answer = first_of_each
    other = sign_up(server)
    wait_until(lambda: len(of_user(receiver, other.user["id"])) == 2)
    assert kinds(of_user(receiver, other.user["id"])) == ["user.created", "session.opened"]
    assert "session.opened" not in kinds(of_user(receiver, one.user["id"]))
    wait_until(lambda: "session.opened" in kinds(of_user(receiver, one.user["id"])))
    mine = [r for r in receiver.received if r.event["data"].get("id") == one.user["id"]]
    assert len(mine) == 3
    assert len({r.id for r in mine}) == 1
    assert mine[1].at - mine[0].at > 0.9
    assert mine[2].at - mine[1].at > 4.5
    wait_until(lambda: not deliveries(admin, made, "?state=pending"))
    assert {row["state"] for row in deliveries(admin, made)} == {"delivered"}
    assert sorted(row["attempts"] for row in deliveries(admin, made)) == [1, 1, 1, 3]


@pytest.mark.slow
def test_a_receiver_that_does_not_answer_delays_no_other(
    reported: tuple[Usher, Client], hook: Callable[..., Any], receiver: WebhookReceiver
) -> None:
    server, _ = reported
    with webhook_receiver() as dead:
        dead.answer = dead.hang
        for _n in range(3):
            hook(dead, "user.created")
        hook(receiver, "user.created")
        for _n in range(12):
            sign_up(server)
        wait_until(lambda: len(receiver.received) == 12, seconds=9.0)
        assert len(dead.received) <= 24  # so many places it may have: no more came


def test_tested_failed_shown_and_replayed(
    reported: tuple[Usher, Client], hook: Callable[..., Any], receiver: WebhookReceiver
) -> None:
    server, admin = reported
    made = hook(receiver)
    receiver.answer = lambda *_: 418
    path = f"{HOOKS}/{made['id']}"
    tested = admin.post(f"{path}/test")
    assert tested.status == 202
    assert tested.body["state"] == "pending"
    wait_until(lambda: deliveries(admin, made, "?state=failed"))
    assert receiver.url.rpartition("/")[2] not in server.log
    (row,) = deliveries(admin, made, "?state=failed")
    assert (row["type"], row["status"], row["error"]) == ("webhook.test", 418, "status")
    assert (row["attempts"], row["next_attempt_at"]) == (1, None)
    receiver.answer = lambda *_: 204
    replay = f"{path}/deliveries/{row['id']}/replay"
    again = admin.post(replay)
    assert again.status == 202
    assert again.body["event_id"] == row["event_id"]
    assert again.body["id"] != row["id"]
    wait_until(lambda: len(receiver.received) == 2)
    assert len({one.id for one in receiver.received}) == 1
    wait_until(lambda: not deliveries(admin, made, "?state=pending"))
    (page,) = deliveries(admin, made, "?limit=1")
    assert page["id"] == again.body["id"]
    assert deliveries(admin, made, f"?after={page['id']}") == [row]
    wait_until(
        lambda: (
            {"webhook.created", "webhook.tested", "webhook.replayed"}
            <= {e["kind"] for e in admin.get("/api/admin/audit?kind=webhook.").body["items"]}
        )
    )
    metrics = Client(server).get("/metrics").text.decode()
    assert 'usher_webhook_deliveries_total{outcome="failed"}' in metrics
    assert "usher_webhook_pending" in metrics


def test_permissions_and_invalid_webhooks(reported: tuple[Usher, Client]) -> None:
    server, admin = reported
    user, nobody = sign_up(server), Client(server)
    body = {"url": "http://127.0.0.1:1/x", "events": ["user.created"]}
    key = admin.post("/api/admin/api-keys", {"name": "K", "scopes": ["read", "users"]}).body["key"]
    by_key = Client(server, token=key)

    def status(client: Client, method: str, path: str, body: object = None) -> int:
        answer: Answer = client.call(method, path, body)
        return answer.status

    for client, expected in ((user, 403), (nobody, 401), (by_key, 401)):
        assert status(client, "POST", HOOKS, body) == expected
        assert status(client, "GET", HOOKS) == expected
        for method, path in (
            ("DELETE", "/x"),
            ("GET", "/x/deliveries"),
            ("POST", "/x/test"),
            ("POST", "/x/deliveries/1/replay"),
        ):
            assert status(client, method, HOOKS + path) == expected
    refusals: tuple[dict[str, Any], ...] = (
        {"url": "ftp://x/"},
        {"url": "http://u:p@x/"},
        {"events": []},
        {"events": ["user.*"]},
        {"events": "user.created"},
        {"url": 5},
    )
    for wrong in refusals:
        refused = admin.post(HOOKS, body | wrong)
        assert (refused.status, refused.body["code"]) == (400, "bad_request")
        assert next(iter(wrong)) in refused.body["detail"]
    for method, path in (
        ("DELETE", "/nobody"),
        ("GET", "/nobody/deliveries"),
        ("POST", "/nobody/test"),
        ("POST", "/nobody/deliveries/1/replay"),
        ("POST", "/nobody/deliveries/x/replay"),
    ):
        assert status(admin, method, HOOKS + path) == 404


def test_private_addresses_are_refused_by_default(
    receiver: WebhookReceiver,
) -> None:
    with usher("sqlite") as server:
        admin = sign_up(server)
        for url in (receiver.url, receiver.url.replace("http:", "https:"), "https://localhost/x"):
            refused = admin.post(HOOKS, {"url": url, "events": ["user.created"]})
            assert (refused.status, refused.body["code"]) == (400, "bad_request")
            assert refused.body["detail"].startswith("url: ")
        # A name is looked at when it is connected to, whatever it led to before.
        made = admin.post(HOOKS, {"url": "https://localhost.localdomain/x", "events": ALL})
        admin.post(f"{HOOKS}/{made.body['id']}/test")
        wait_until(lambda: deliveries(admin, made.body)[0]["state"] == "failed")
        error = deliveries(admin, made.body)[0]["error"]
        assert error in ("address_refused", "unknown_host")  # as the machine knows the name
        assert not receiver.received


@pytest.mark.parametrize("trusted", [False, True])
def test_a_certificate_is_checked_and_one_of_your_own_authority_named(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / CERTIFICATE_FILE))
    with webhook_receiver(tls) as receiver, usher("sqlite", WEBHOOK_PRIVATE="on") as server:
        admin = sign_up(server)
        made = admin.post(HOOKS, {"url": receiver.url, "events": ALL}).body
        admin.post(f"{HOOKS}/{made['id']}/test")
        wait_until(lambda: deliveries(admin, made)[0]["state"] != "pending")
        (row,) = deliveries(admin, made)
        assert (row["state"], row["error"]) == (
            ("delivered", None) if trusted else ("failed", "tls")
        )
        assert len(receiver.received) == trusted


@pytest.mark.slow
def test_nodes_share_the_work_and_each_event_is_delivered_once() -> None:
    with nodes("postgresql", 2, WEBHOOK_PRIVATE="on") as both, webhook_receiver() as receiver:
        wanted = {"url": receiver.url, "events": ["user.created", "session.opened"]}
        made = both.admin.post(HOOKS, wanted).body
        for n in range(20):
            sign_up(both[n % 2])
        wait_until(lambda: len({one.id for one in receiver.received}) == 40)
        wait_until(lambda: not deliveries(both.admin, made, "?state=pending"))
        assert len(receiver.received) == 40
        counts = [Client(one).get("/metrics").text.decode() for one in both]
        delivered = 'usher_webhook_deliveries_total{outcome="delivered"}'
        assert all(delivered in text for text in counts)  # each node did a part of it


class SignUps:
    """Users who sign up while the server is restarted. `done` has the acknowledged ones."""

    def __init__(self, server: Usher) -> None:
        self.done: list[str] = []
        self._server, self._stop = server, threading.Event()
        self._threads = [threading.Thread(target=self._go_on) for _ in range(2)]

    def _go_on(self) -> None:
        nobody = Client(self._server)
        while not self._stop.is_set():
            body = {"email": address(), "password": PASSWORD, "name": "Ada", "client": "native"}
            try:
                answer = nobody.post("/api/auth/signup", body)
            except (OSError, ValueError):
                self._stop.wait(0.05)
            else:
                if answer.status == 201:
                    self.done.append(answer.body["user"]["id"])

    def more(self, count: int) -> None:
        """Wait until so many more have signed up."""
        goal = len(self.done) + count
        wait_until(lambda: len(self.done) >= goal, seconds=3 * PATIENCE)

    def __enter__(self) -> SignUps:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(database_kind: str) -> None:
    with webhook_receiver() as receiver, usher(database_kind, WEBHOOK_PRIVATE="on") as server:
        admin = sign_up(server)
        wanted = ["user.created", "session.opened"]
        made = admin.post(HOOKS, {"url": receiver.url, "events": wanted}).body
        with SignUps(server) as people:
            for _ in range(6):
                people.more(3)
                server.restart(signal.SIGKILL)
        wait_until(
            lambda: all(len(set(kinds(of_user(receiver, u)))) == 2 for u in people.done),
            seconds=5 * PATIENCE,
        )
        for user_id in people.done:
            came = [one for one in receiver.received if user_id in one.body.decode()]
            assert came[0].event["type"] == "user.created"
            assert len({one.id for one in came}) == 2
        wait_until(lambda: not deliveries(admin, made, "?state=pending"), seconds=5 * PATIENCE)
