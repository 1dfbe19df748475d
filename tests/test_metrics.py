"""The metrics: a separate registry, the Prometheus format, no private data."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.metrics import CONTENT_TYPE, Metrics
from services.websocket.protocol import CloseCode
from tests.support.parts import node, open_socket


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as Prometheus reads it, by name and labels."""
    families = text_string_to_metric_families(metrics.expose().decode())
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
    }


def test_two_servers_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.sockets.inc()
    one.joins.inc("joined")
    assert samples(one)["usher_sockets[]"] == 1
    assert samples(two)["usher_sockets[]"] == 0
    assert "usher_joins_total[('outcome', 'joined')]" not in samples(two)


def test_every_metric_is_ours_and_says_what_it_counts() -> None:
    metrics = Metrics()
    families = list(text_string_to_metric_families(metrics.expose().decode()))
    assert len(families) > 10
    for family in families:
        assert family.name.startswith("usher_")
        assert family.documentation.endswith("."), family.name


def test_the_text_is_of_the_version_that_the_content_type_names() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert not Metrics().expose().rstrip().endswith(b"# EOF"), "that would be OpenMetrics"


@pytest.mark.gen_test
async def test_sockets_and_their_ends_are_counted(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        peers = [await open_socket(parts, login) for _ in range(3)]
        assert samples(parts.metrics)["usher_sockets[]"] == 3
        peers[0].client.close(CloseCode.FORBIDDEN)
        await parts.session_ends.end(login.user.id, login.claims.sid, "logout")
        seen = samples(parts.metrics)
        assert seen["usher_sockets[]"] == 0
        assert seen["usher_closes_total[('code', '4403')]"] == 1
        assert seen["usher_closes_total[('code', '4410')]"] == 2
        assert seen["usher_sockets_revoked_total[('reason', 'logout')]"] == 2
        assert seen["usher_joins_total[('outcome', 'joined')]"] == 3
        assert seen["usher_revocation_seconds_count[]"] == 1


@pytest.mark.gen_test
async def test_no_metric_identifies_a_user(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in(await parts.user("Ada Lovelace"))
        peer = await open_socket(parts, login, bearer=True)
        await parts.session_ends.end(login.user.id, login.claims.sid, "logout", login.claims.jti)
        text = parts.metrics.expose().decode()
        assert "4410" in text
        claims = login.claims
        session_id = peer.client.session_id
        for private in (
            "Lovelace",
            login.user.email,
            claims.sub,
            claims.sid,
            claims.jti,
            session_id,
        ):
            assert private not in text


def test_a_labelled_counter_has_counted_everything_whenever_it_is_looked_at() -> None:
    metrics = Metrics()
    for number in range(1, 4):
        metrics.joins.inc("joined")
        assert metrics.joins.count("joined") == number
        assert b'usher_joins_total{outcome="joined"} %d.0' % number in metrics.expose()
        assert (
            metrics.registry.get_sample_value("usher_joins_total", {"outcome": "joined"}) == number
        )
    assert metrics.joins.count("refused") == 0
    metrics.joins.inc("refused")
    assert (metrics.joins.count("joined"), metrics.joins.count("refused")) == (3, 1)
