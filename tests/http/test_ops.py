"""/healthz, /readyz and /metrics, for monitoring."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.refresh.steps import TICK_KEY
from services.step_up.freshness import KEY as PROOF_KEY
from services.storage.encryption import generate_key
from tests.support.checks import content, plain_refusal
from tests.support.redis import RealRedis, redis_server  # noqa: F401 - a fixture
from tests.support.server import (
    Client,
    Usher,
    bearer,
    close_code,
    connect,
    event,
    sign_up,
    usher,
    wait_until,
)

READY = {
    "status": "ready",
    "database": "ok",
    "redis": "ok",
    "encryption": "ok",
    "mail": "files",
}


def samples(server: Usher) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics: its name and label values, sorted, to its value."""
    answer = Client(server).get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(answer.text.decode()):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.values()))
            found[key] = sample.value
    return found


def test_a_live_server_says_so_to_anyone(server: Usher) -> None:
    answer = Client(server).get("/healthz")
    assert answer.status == 200
    assert answer.body == {"status": "ok"}
    assert Client(server).call("HEAD", "/healthz").status == 200
    foreign = Client(server).call("GET", "/healthz", headers={"Origin": "https://evil.example"})
    assert foreign.status == 200


def test_a_ready_server_says_so_with_each_dependency(server: Usher) -> None:
    answer = Client(server).get("/readyz")
    assert answer.status == 200
    assert answer.body == READY
    assert answer.headers["Cache-Control"] == "no-store"


def test_ready_without_redis_means_fallback(database_kind: str, redis_server: RealRedis) -> None:  # noqa: F811
    with usher(database_kind, REDIS_URL=redis_server.url) as server:
        assert Client(server).get("/readyz").body == READY
        redis_server.kill()
        wait_until(lambda: Client(server).get("/readyz").body["redis"] == "fallback")
        answer = Client(server).get("/readyz")
        assert answer.status == 200
        assert answer.body == READY | {"redis": "fallback"}
        assert samples(server)[("usher_redis_up",)] in (0, 1)  # seen within a second
        wait_until(lambda: samples(server)[("usher_redis_up",)] == 0)
        redis_server.start()
        wait_until(lambda: Client(server).get("/readyz").body == READY)
        wait_until(lambda: samples(server)[("usher_redis_up",)] == 1)


def test_a_server_can_start_while_redis_is_unavailable(
    database_kind: str,
    redis_server: RealRedis,  # noqa: F811
) -> None:
    redis_server.kill()
    with usher(database_kind, REDIS_URL=redis_server.url) as server:
        answer = Client(server).get("/readyz")
        assert (answer.status, answer.body["redis"]) == (200, "fallback")
        assert sign_up(server).get("/api/auth/me").status == 200
        assert "not answering yet" in server.log


def test_a_wrong_encryption_key_is_not_ready_and_deletes_nothing(database_kind: str) -> None:
    with usher(database_kind) as server:
        client = sign_up(server)
        right = (server.data_dir / "encryption_keys.key").read_text()

        def steady() -> dict[str, list[Any]]:
            """All but when a session was last seen, what the trail says, what health tries and what
            counts on by itself."""
            tables = content(server)
            del tables["audit_events"], tables["used_once"]
            rows = tables["installation"]
            moving = {TICK_KEY, PROOF_KEY}
            tables["installation"] = [row for row in rows if moving.isdisjoint(row)]
            assert len(tables.pop("login_sessions")) == 1
            return tables

        # The mail to confirm the address has been written: a row less, and one more of a link.
        wait_until(lambda: not content(server)["outgoing_mails"])
        before = steady()
        assert len(before["users"]) == 1
        server.environment["USHER_ENCRYPTION_KEYS"] = generate_key().reveal()
        server.restart()
        answer = Client(server).get("/readyz")
        assert answer.status == 503
        assert answer.body == READY | {"status": "not_ready", "encryption": "wrong_key"}
        assert answer.headers["Content-Type"] == "application/json"
        assert Client(server).get("/healthz").status == 200
        assert client.get("/api/auth/me").status == 200
        assert steady() == before
        assert (server.data_dir / "encryption_keys.key").read_text() == right
        # Bringing the right one back is all it takes.
        del server.environment["USHER_ENCRYPTION_KEYS"]
        server.restart()
        assert Client(server).get("/readyz").body == READY


@pytest.mark.gen_test
async def test_the_metrics_count_what_happens(database_kind: str) -> None:
    with usher(database_kind) as server:
        before = samples(server)
        assert before[("usher_sockets",)] == 0
        assert before[("usher_redis_up",)] == 1
        assert before[("usher_database_up",)] == 1
        client = sign_up(server)
        async with connect(server, subprotocols=bearer(client.token)) as socket:
            await event(socket, "joined")
            during = samples(server)
            assert during[("usher_sockets",)] == 1
            assert during[("usher_joins_total", "joined")] == 1
            assert client.post("/api/auth/logout").status == 204
            assert await close_code(socket) == 4410
        after = samples(server)
        assert after[("usher_sockets",)] == 0
        assert after[("usher_closes_total", "4410")] == 1
        assert after[("usher_sockets_revoked_total", "logout")] == 1
        assert after[("usher_revocation_seconds_count",)] == 1
        assert after[("usher_revocation_seconds_sum",)] < 1
        assert after[("usher_sign_ins_total", "signed_up")] == 1
        assert after[("usher_http_requests_total", "201", "POST")] == 1
        # A usual join asks Redis and not the database.
        assert not [key for key in after if key[0] == "usher_joins_by_database_total"]


def test_the_metrics_do_not_grow_with_what_clients_make_up(server: Usher) -> None:
    for number in range(20):
        Client(server).call(f"MADEUP{number}", f"/made/up/{number}")
    labels = [key for key in samples(server) if any("MADEUP" in part for part in key)]
    assert not labels


def test_the_metrics_hold_nobodys_name_or_address(server: Usher) -> None:
    client = sign_up(server)
    text = Client(server).get("/metrics").text.decode()
    for word in (client.user["email"], client.user["id"], str(client.token)):
        assert word not in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_what_watches_can_only_look(server: Usher, path: str) -> None:
    plain_refusal(Client(server).post(path), 405, "method_not_allowed")
