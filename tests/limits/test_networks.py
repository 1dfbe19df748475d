from __future__ import annotations

import pytest

from services.limits.networks import network_of


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("/run/usher.sock", "/run/usher.sock"),
    ],
)
def test_an_address_of_ipv6_stands_for_its_subscriber(ip: str, network: str) -> None:
    assert network_of(ip) == network
