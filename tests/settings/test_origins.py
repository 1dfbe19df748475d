"""services/settings/origins.py: which pages may use a user's cookies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import BadRequest
from services.settings.origins import Origins, checked_next, is_loopback, parse_origin

PUBLIC = Origins("https://usher.example", "10.0.0.1", 8888, ["https://app.example:8443"])


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://Usher.Example", "https://usher.example"),
        ("HTTPS://usher.example:443", "https://usher.example"),
        ("http://usher.example:80", "http://usher.example"),
        ("http://usher.example:443", "http://usher.example:443"),
        ("https://usher.example:8443", "https://usher.example:8443"),
        ("http://[::1]:8888", "http://[::1]:8888"),
        ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_an_origin_has_one_spelling(text: str, normal: str) -> None:
    assert parse_origin(text) == normal
    assert parse_origin(normal) == normal


NOT_ORIGINS = [
    "",
    "null",
    "*",
    "usher.example",
    "//usher.example",
    "https://",
    "https:///",
    "https://usher.example/",
    "https://usher.example/path",
    "https://usher.example?x",
    "https://usher.example#x",
    "https://user@usher.example",
    "https://user:pw@usher.example",
    "https://evil.example https://usher.example",
    "https://usher.example, https://evil.example",
    "https://usher.example\r\nX: y",
    "https://usher.example\n",
    " https://usher.example",
    "https://usher.example:",
    "https://usher.example:0",
    "https://usher.example:0443",
    "https://usher.example:65536",
    "https://usher.example:443:443",
    "https://usher.example:\uff14\uff14\uff13",
    "https://*.example",
    "https://usher..example",
    "https://-usher.example",
    "https://bücher.example",
    "https://usher.example\u2024evil",
    "https://\u212asher.example",
    "http://127.1",
    "http://2130706433",
    "http://0x7f.0.0.1.1",
    "http://127.0.0.01",
    "http://[::1",
    "http://::1",
    "http://[::1%25eth0]",
    "http://[zz::1]",
    "file://host",
    "ftp://usher.example",
    "ws://usher.example",
    "wss://usher.example",
    "javascript://usher.example",
    "https:\\\\usher.example",
    "https://" + "a" * 64 + ".example",
    "https://" + "a." * 200 + "example",
]


@pytest.mark.parametrize("text", NOT_ORIGINS)
def test_what_is_no_single_origin_is_refused(text: str) -> None:
    assert parse_origin(text) is None
    assert not PUBLIC.is_own_or_allowed(text)


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        ("https://usher.example", True),
        ("HTTPS://USHER.EXAMPLE:443", True),
        ("https://app.example:8443", True),
        ("http://usher.example", False),
        ("https://usher.example:444", False),
        ("https://app.example", False),
        ("https://usher.example.evil.example", False),
        ("https://evilusher.example", False),
        ("https://sub.usher.example", False),
        ("https://usher.example.", False),
        ("http://10.0.0.1:8888", False),
        ("http://localhost:8888", False),
        (None, False),
    ],
)
def test_scheme_host_and_port_are_compared(origin: str | None, taken: bool) -> None:
    assert PUBLIC.is_own_or_allowed(origin) is taken


LISTENS: dict[str, tuple[list[str], str]] = {
    # HOST: the addresses bound, the address announced
    "127.0.0.1": (["127.0.0.1"], "127.0.0.1"),
    "127.0.0.2": (["127.0.0.2"], "127.0.0.2"),
    "::1": (["::1"], "[::1]"),
    "localhost": (["127.0.0.1", "::1"], "localhost"),
    "0.0.0.0": (["0.0.0.0"], "127.0.0.1"),
    "::": (["::"], "[::1]"),
}


@pytest.mark.parametrize("host", LISTENS)
def test_without_a_public_url_it_is_own_where_it_listens_and_nowhere_else(host: str) -> None:
    bound, announced = LISTENS[host]
    origins = Origins(None, host, 8080, bound=bound)
    assert origins.public_url == f"http://{announced}:8080"
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}
    own = {reached.get(address, address) for address in bound} | {"localhost"}
    for name in ("127.0.0.1", "127.0.0.2", "localhost", "[::1]"):
        assert origins.is_own_or_allowed(f"http://{name}:8080") is (name in own)
        assert not origins.is_own_or_allowed(f"http://{name}:8081")
        assert not origins.is_own_or_allowed(f"https://{name}:8080")
    assert not origins.is_own_or_allowed("http://evil.example:8080")


def test_a_name_is_own_with_the_addresses_that_it_stands_for() -> None:
    origins = Origins(None, "box.lan", 80, bound=["192.168.1.5"])
    assert origins.public_url == "http://box.lan"
    assert origins.is_own_or_allowed("http://192.168.1.5")
    assert not origins.is_own_or_allowed("http://localhost")


def test_without_a_public_url_another_address_is_own_and_this_machine_is_not() -> None:
    origins = Origins(None, "192.0.2.7", 80)
    assert origins.is_own_or_allowed("http://192.0.2.7")
    assert not origins.is_own_or_allowed("http://localhost")


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("127.0.0.1", 8888, "http://127.0.0.1:8888"),
        ("::1", 8888, "http://[::1]:8888"),
        ("usher.example", 80, "http://usher.example"),
        ("0.0.0.0", 8888, "http://127.0.0.1:8888"),
        ("::", 8888, "http://[::1]:8888"),
    ],
)
def test_the_public_url_defaults_to_where_the_server_listens(
    host: str, port: int, url: str
) -> None:
    origins = Origins(None, host, port)
    assert origins.public_url == url
    assert not origins.secure


def test_an_https_public_url_makes_cookies_secure() -> None:
    assert PUBLIC.public_url == "https://usher.example"
    assert PUBLIC.secure


@given(st.text(max_size=60))
def test_no_text_but_a_taken_origin_is_accepted(text: str) -> None:
    assert not PUBLIC.is_own_or_allowed(text) or text.lower().startswith("https://")
    normal = parse_origin(text)
    assert normal is None or parse_origin(normal) == normal


def test_loopback_is_this_machine_only() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["10.0.0.1", "localhost.example", "128.0.0.1", "", "127.1"]))


def test_by_default_the_screen_shows_the_name_at_which_passkeys_work() -> None:
    origins = Origins(None, "127.0.0.1", 8888, bound=["127.0.0.1"])
    assert origins.public_url == "http://127.0.0.1:8888"
    assert origins.announced == "http://localhost:8888"
    assert origins.relying_party() == ("localhost", ("http://localhost:8888",))
    assert origins.opened(providers=False) == origins.announced


def test_with_providers_the_screen_shows_the_redirect_host() -> None:
    origins = Origins(None, "127.0.0.1", 8888, bound=["127.0.0.1"])
    assert origins.opened(providers=True) == origins.public_url


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "192.0.2.7", "box.lan"])
def test_otherwise_the_screen_shows_where_it_listens(host: str) -> None:
    origins = Origins(None, host, 8888)
    assert origins.announced == origins.public_url


@pytest.mark.parametrize(
    ("public", "allowed", "expected"),
    [
        ("https://usher.example", [], ("usher.example", ("https://usher.example",))),
        (
            "https://example.org",
            ["https://app.example.org:8443", "https://evilexample.org", "https://other.example"],
            ("example.org", ("https://app.example.org:8443", "https://example.org")),
        ),
        ("http://localhost:8888", [], ("localhost", ("http://localhost:8888",))),
        ("https://example.org/usher", [], ("example.org", ("https://example.org",))),
        ("http://127.0.0.1:8888", ["http://localhost:8888"], None),
        ("https://[::1]:8888", [], None),
    ],
)
def test_the_relying_party_is_the_host_of_the_public_url(
    public: str, allowed: list[str], expected: object
) -> None:
    assert Origins(public, "127.0.0.1", 8888, allowed).relying_party() == expected


def test_a_path_of_the_public_url_is_no_part_of_its_origin() -> None:
    origins = Origins("https://example.org/a/b", "127.0.0.1", 8888)
    assert origins.public_url == origins.announced == "https://example.org/a/b"
    assert (origins.path, origins.home, origins.secure) == ("/a/b", "/a/b/", True)
    assert origins.is_own("https://example.org")
    assert not origins.is_own("https://example.org/a/b")
    assert not origins.is_own("https://a")
    assert "USHER_PUBLIC_URL" in origins.refused("http://example.org", "example.org")
    without = Origins("https://example.org", "127.0.0.1", 8888)
    assert (without.path, without.home) == ("", "/")


@pytest.mark.parametrize(
    ("target", "fits"),
    [
        ("/", True),
        ("/app/x?y#z", True),
        ("/a/b/", True),
        ("/oauth/x", True),
        ("/a/oauth/x", True),
        ("https://example.org/other", True),
        ("/a/b/oauth/x", False),
        ("/a/%62/oauth/x", False),
        ("/a%2Fb/oauth/x", False),
        ("/a/b%2foauth%2fx", False),
        ("/a//b/oauth/x", False),
        ("/a/./b/oauth", False),
        ("/a/c/%2e%2e/b/oauth", False),
        ("/a/c/..%2fb/oauth", False),
        ("/a/b/%6Fauth/x", False),
        ("https://example.org/a/b/oauth/x", False),
        ("https://example.org//a/b/oauth/x", False),
        ("//evil.example/", False),
        ("https://evil.example/a/b/", False),
    ],
)
def test_a_sign_in_leads_to_any_path_of_the_host_but_to_no_sign_in(target: str, fits: bool) -> None:
    origins = Origins("https://example.org/a/b", "127.0.0.1", 8888)
    if fits:
        assert checked_next(target, origins) == target
        return
    with pytest.raises(BadRequest):
        checked_next(target, origins)
