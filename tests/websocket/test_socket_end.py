"""websocket/socket.py on the wire: every ending of a socket, and slow consumers."""

from __future__ import annotations

import re
import threading
import time

from tests.support.raw import (
    Ending,
    RawClient,
    assert_quiet,
    by_header,
    event,
    frame,
    handshake,
    joined,
)
from tests.support.server import Client, Usher, log_in, new_token, sign_up, usher, wait_until
from tests.websocket.sockets import ada, ben, ends, installation, join_frame

__all__ = ["ada", "ben", "installation"]

# ---- endings from outside --------------------------------------------------------------------


def test_a_logout_closes_the_sockets_of_its_session_and_no_others(
    installation: Usher, ada: Client
) -> None:
    mail = "eve@example.org"
    eve = sign_up(installation, email=mail)
    elsewhere = log_in(installation, mail)
    with (
        joined(installation, by_header(eve.token)) as one,
        joined(installation, target=f"/ws?ticket={eve.ticket()}") as two,
        joined(installation, by_header(elsewhere.token)) as other,
        joined(installation, by_header(ada.token)) as other_user,
    ):
        assert eve.post("/api/auth/logout").status == 204
        # The logout is acknowledged: nothing sent from now on is answered.
        for socket in (one, two):
            socket.send(event("heartbeat", "after"))
            end = socket.ending()
            ends(end, 4410, "session_revoked", "login")
            assert len(end.events) == 1, end
        other.lives()
        other_user.lives()


def test_a_stopping_server_asks_everybody_to_come_back(socket_kind: str) -> None:
    with usher(socket_kind) as server:
        client = sign_up(server)
        with joined(server, by_header(client.token)) as known, RawClient(server) as unauthenticated:
            unauthenticated.upgrade()
            server.process.terminate()
            for socket in (known, unauthenticated):
                end = socket.ending()
                assert (end.code, end.reason) == (1012, "service_restart")
                after = end.closing.pop("after")
                assert 0 < after <= 60
                assert end.closing == {
                    "code": 1012,
                    "reason": "service_restart",
                    "retry": "backoff",
                }
        assert server.end() == 0
        assert_quiet(server.log)


# ---- slow consumers --------------------------------------------------------------------------


def closes(server: Usher, code: int) -> float:
    """How often the server has closed a socket so."""
    text = Client(server).get("/metrics").text.decode()
    found = re.search(rf'^usher_closes_total{{code="{code}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def flood_without_reading(client: RawClient) -> None:
    """Ask for megabytes until the server has had enough."""
    question = event("heartbeat", "x" * 60_000)
    try:
        for _ in range(1000):
            client.send(question)
    except OSError:
        return  # it let go of us


def test_a_slow_consumer_is_closed_with_4413_and_affects_no_other(
    installation: Usher, ada: Client, ben: Client
) -> None:
    before = closes(installation, 4413)
    with (
        joined(installation, by_header(ben.token)) as other,
        joined(installation, by_header(ada.token), receive_buffer=4096) as slow,
    ):
        flood = threading.Thread(target=flood_without_reading, args=(slow,))
        flood.start()
        waited = []
        while flood.is_alive():
            began = time.monotonic()
            other.lives()
            waited.append(time.monotonic() - began)
        flood.join()
        wait_until(lambda: closes(installation, 4413) == before + 1)
        assert max(waited) < 5
        other.lives()


def test_a_slow_consumer_receives_the_reason_when_it_reads_on(
    installation: Usher, ada: Client
) -> None:
    end = Ending(1006, "")
    for _ in range(5):  # it has a second to read on; a busy machine may need another try
        before = closes(installation, 4413)
        with joined(installation, by_header(new_token(ada)), receive_buffer=4096) as slow:
            slow.socket.setblocking(False)
            _fill(installation, slow, before)
            slow.socket.settimeout(20)
            end = slow.ending()
        if end.code != 1006:
            break
    ends(end, 4413, "slow_consumer", "backoff")


def _fill(server: Usher, slow: RawClient, before: float) -> None:
    """Send whole questions and read nothing, until the server has closed."""
    question = event("heartbeat", "x" * 8000)
    end = time.monotonic() + 20
    while closes(server, 4413) == before:
        assert time.monotonic() < end
        for _ in range(50):
            slow.socket.settimeout(5)
            slow.send(question)


def test_a_slow_reader_that_keeps_up_in_the_end_loses_nothing(
    installation: Usher, ada: Client
) -> None:
    with joined(installation, by_header(ada.token), receive_buffer=4096) as client:
        client.send(b"".join(event("heartbeat", f"{n}" + "x" * 8000) for n in range(20)))
        assert [int(client.event()["id"].strip("x")) for _ in range(20)] == list(range(20))


# ---- leaving ---------------------------------------------------------------------------------


def test_a_close_frame_is_answered_in_kind(installation: Usher, ada: Client) -> None:
    for code in (1000, 1001, 3000, 4999):
        with joined(installation, by_header(ada.token)) as client:
            client.send(frame(code.to_bytes(2, "big") + b"bye", 0x8))
            end = client.ending()
            assert (end.code, end.events) == (code, [])
    with joined(installation, by_header(ada.token)) as client:
        client.send(frame(b"", 0x8))
        assert client.ending().code == 1005


def test_a_closed_socket_is_not_in_the_list_of_sessions(installation: Usher) -> None:
    client = sign_up(installation)

    def live() -> int:
        (session,) = client.get("/api/sessions").body["items"]
        return int(session["live_sockets"])

    with joined(installation, by_header(client.token)):
        wait_until(lambda: live() == 1)
        with joined(installation, target=f"/ws?ticket={client.ticket()}"):
            wait_until(lambda: live() == 2)
        wait_until(lambda: live() == 1)
    wait_until(lambda: live() == 0)


def test_a_connection_closed_during_the_credential_check_leaves_nothing(
    installation: Usher,
) -> None:
    client = sign_up(installation)
    for _ in range(20):
        with RawClient(installation) as socket:
            socket.send(handshake("/ws", by_header(client.token)))
        with RawClient(installation) as socket:
            socket.send(handshake() + join_frame(client.token))
    (session,) = client.get("/api/sessions").body["items"]
    wait_until(lambda: client.get("/api/sessions").body["items"][0]["live_sockets"] == 0)
    assert session["current"] is True
