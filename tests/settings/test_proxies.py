"""settings/proxies.py: X-Forwarded-* counts only as far as trusted proxies wrote it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.settings.proxies import ClientAddress, Proxies

PROXIES = Proxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.1")])
FORGED = {
    "Host": "usher.example",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
}


@pytest.mark.parametrize("peer", ["203.0.113.5", "192.0.2.2", "::ffff:203.0.113.5", "2001:db8::1"])
def test_headers_of_a_peer_that_is_not_trusted_are_not_looked_at(peer: str) -> None:
    ip = peer.removeprefix("::ffff:")
    assert PROXIES.client_address(peer, FORGED) == ClientAddress(ip, "http", "usher.example")
    assert Proxies().client_address(peer, FORGED).ip == ip


def test_headers_of_a_trusted_peer_count() -> None:
    found = PROXIES.client_address("10.1.1.1", FORGED)
    assert found == ClientAddress("203.0.113.9", "https", "evil.example")


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("", "10.1.1.1"),
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.2.2.2", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9, 192.0.2.1, 10.2.2.2", "203.0.113.9"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.2.2.2", "203.0.113.9"),
        ("203.0.113.9, unknown, 10.2.2.2", "10.2.2.2"),
        ("203.0.113.9,, 10.2.2.2", "10.2.2.2"),
        ("203.0.113.9, <script>", "10.1.1.1"),
        ("999.1.1.1", "10.1.1.1"),
        ("203.0.113.9 10.2.2.2", "10.1.1.1"),
        ("127.0.0.1", "127.0.0.1"),
        (",".join(["203.0.113.9"] + ["10.2.2.2"] * 40), "10.2.2.2"),
    ],
)
def test_the_chain_is_walked_from_the_right_to_the_first_unauthenticated_client(
    forwarded: str, ip: str
) -> None:
    assert PROXIES.client_address("10.1.1.1", {"X-Forwarded-For": forwarded}).ip == ip


def test_a_dual_stack_socket_knows_its_ipv4_proxies() -> None:
    found = PROXIES.client_address("::ffff:10.1.1.1", {"X-Forwarded-For": "203.0.113.9"})
    assert found.ip == "203.0.113.9"


@pytest.mark.parametrize(
    ("value", "proto"),
    [("https", "https"), ("HTTPS", "https"), ("http", "http"), ("https, http", "http"),
     ("http, https", "https"), ("ftp", "http"), ("", "http"), ("https;", "http")],
)  # fmt: skip
def test_the_nearest_proxy_determines_the_scheme(value: str, proto: str) -> None:
    assert PROXIES.client_address("10.1.1.1", {"X-Forwarded-Proto": value}).proto == proto


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("App.Example", "app.example"),
        ("app.example:8443", "app.example:8443"),
        ("[::1]:80", "[::1]:80"),
        ("evil.example, app.example", "app.example"),
        ("app.example/path", "usher.example"),
        ("user@app.example", "usher.example"),
        ("app.example\r\nX: y", "usher.example"),
        ("", "usher.example"),
        ("a" * 400, "usher.example"),
    ],
)
def test_a_forwarded_host_has_to_be_a_host(value: str, host: str) -> None:
    headers = {"Host": "usher.example", "X-Forwarded-Host": value}
    assert PROXIES.client_address("10.1.1.1", headers).host == host


def test_a_unix_socket_peer_and_a_missing_host_are_not_errors() -> None:
    assert PROXIES.client_address("", {}) == ClientAddress("", "http", None)


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20))
def test_garbage_in_headers_is_passed_over(forwarded: str, proto: str, host: str) -> None:
    headers = {
        "X-Forwarded-For": forwarded, "X-Forwarded-Proto": proto, "X-Forwarded-Host": host
    }  # fmt: skip
    found = PROXIES.client_address("10.1.1.1", headers)
    assert str(ip_address(found.ip)) == found.ip
    assert found.proto in {"http", "https"}


@given(st.lists(st.ip_addresses().map(str), max_size=4))
def test_what_a_client_puts_in_front_does_not_change_its_address(made_up: list[str]) -> None:
    forwarded = ", ".join([*made_up, "203.0.113.9", "10.2.2.2"])
    found = PROXIES.client_address("10.1.1.1", {"X-Forwarded-For": forwarded})
    assert found.ip == "203.0.113.9"
