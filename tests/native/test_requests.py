"""Authorization requests of native apps, and the redirect URIs that are accepted."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import NotFound, RateLimited, Unauthenticated, Unavailable, UsherError
from services.native.requests import (
    MAX_STATE_LENGTH,
    MAX_URI_LENGTH,
    NativeRequest,
    RedirectRefused,
    RequestRefused,
    answer_url,
    is_on_this_machine,
    may_be_answered,
    read_request,
    refusal_url,
    shown_target,
)
from services.oauth.errors import Reason, SignInRefused

LISTED = ("com.example.app:/callback", "https://app.example/signed-in")
LOOPBACK = "http://127.0.0.1:49152/callback"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""Of RFC 7636 appendix B."""
GOOD = {
    "redirect_uri": [LOOPBACK],
    "state": ["a state"],
    "code_challenge": [CHALLENGE],
    "code_challenge_method": ["S256"],
}
ISSUER = "https://usher.example"


@pytest.mark.parametrize(
    "uri",
    [
        *LISTED,
        LOOPBACK,
        "http://127.0.0.1",
        "http://127.0.0.1/",
        "http://127.0.0.1:1",
        "http://127.0.0.1:65535/a/b;c=d,e",
        "http://[::1]:8000/callback?app=1",
        "http://[::1]",
        "http://127.0.0.1:80/%7Euser",
    ],
)
def test_a_program_of_this_machine_or_a_listed_app_is_answered(uri: str) -> None:
    assert may_be_answered(uri, LISTED)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://localhost:8000/callback",
        "https://127.0.0.1:8000/callback",
        "HTTP://127.0.0.1:8000/",
        "http://127.0.0.2:8000/",
        "http://127.1:8000/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://[::ffff:127.0.0.1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://0.0.0.0/",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://me@127.0.0.1/",
        "http://127.0.0.1:@evil.example/",
        "http://127.0.0.1:8000@evil.example/",
        "http://127.0.0.1\\@evil.example/",
        "http://127.0.0.1:8000\\.evil.example",
        "http://127.0.0.1:8000/\\evil",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:65536/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:08/",
        "http://127.0.0.1:/",
        "http://127.0.0.1:8000/#fragment",
        "http://127.0.0.1:8000/%zz",
        "http://127.0.0.1:8000/a b",
        " http://127.0.0.1:8000/",
        "http://127.0.0.1:8000/\n",
        "http://127.0.0.1:8000/\x00",
        "http://127.0.0.1:8000/\r\nSet-Cookie: a=b",
        "http:/\t/127.0.0.1/",
        "http:127.0.0.1/",
        "//127.0.0.1/",
        "http://127.0.0.1:8000/?code=mine",
        "http://127.0.0.1:8000/?a=b&state=mine",
        "http://127.0.0.1:8000/?%63ode=mine",
        "http://127.0.0.1:8000/?iss=",
        "http://127.0.0.1:8000/?error",
        "http://127.0.0.1:8000/" + "a" * MAX_URI_LENGTH,
        "http://\uff11\uff12\uff17.0.0.1/",
        "javascript:alert(1)",
        "com.example.app:/callback/",
        "com.example.app:/Callback",
        "COM.example.app:/callback",
        "com.example.app:/callback?a=b",
        "com.example.other:/callback",
        "https://app.example/signed-in?next=https://evil.example",
        "https://app.example/signed-in/..",
        "https://app.example:443/signed-in",
    ],
)
def test_other_redirect_uris_are_refused(uri: str) -> None:
    assert not may_be_answered(uri, LISTED)
    with pytest.raises(RedirectRefused):
        read_request({**GOOD, "redirect_uri": [uri]}, LISTED)


@given(st.text(max_size=60))
def test_whatever_follows_a_loopback_address_it_stays_one(rest: str) -> None:
    for uri in (f"http://127.0.0.1{rest}", f"http://[::1]{rest}", f"http://127.0.0.1:80{rest}"):
        if may_be_answered(uri, ()):
            parts = urlsplit(uri)
            assert parts.hostname in ("127.0.0.1", "::1")
            assert parts.username is parts.password is None
            assert not parts.fragment


def test_a_request_is_read() -> None:
    assert read_request(GOOD, ()) == NativeRequest(LOOPBACK, "a state", CHALLENGE)
    more = {**GOOD, "client": ["native"], "response_type": ["code"], "client_id": ["me"]}
    assert read_request(more, ()) == read_request(GOOD, ())
    without = {name: values for name, values in GOOD.items() if name != "state"}
    assert read_request(without, ()).state is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("state", [""]),
        ("state", ["a", "b"]),
        ("state", ["ü"]),
        ("state", ["a\n"]),
        ("state", ["x" * (MAX_STATE_LENGTH + 1)]),
        ("code_challenge", []),
        ("code_challenge", [""]),
        ("code_challenge", [CHALLENGE + "="]),
        ("code_challenge", [CHALLENGE[:-1]]),
        ("code_challenge", [CHALLENGE, CHALLENGE]),
        ("code_challenge", [CHALLENGE[:-1] + "+"]),
        ("code_challenge_method", []),
        ("code_challenge_method", ["plain"]),
        ("code_challenge_method", ["s256"]),
        ("code_challenge_method", ["S256", "S256"]),
        ("response_type", ["token"]),
        ("response_type", ["code", "code"]),
        ("client", ["native", "native"]),
        ("scope", ["a", "b"]),
    ],
)
def test_other_errors_are_reported_to_the_app(name: str, values: list[str]) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_request({**GOOD, name: values}, ())
    assert refused.value.request.redirect_uri == LOOPBACK
    word = "unsupported_response_type" if values == ["token"] else "invalid_request"
    where = urlsplit(refusal_url(refused.value.request, ISSUER, refused.value))
    said = parse_qs(where.query)
    assert said["error"] == [word]
    assert said["iss"] == [ISSUER]
    assert said.get("state") == (None if name == "state" else ["a state"])


def test_the_redirect_uri_may_stand_there_once() -> None:
    for uris in ([], [LOOPBACK, LOOPBACK]):
        with pytest.raises(RedirectRefused):
            read_request({**GOOD, "redirect_uri": uris}, ())


def test_an_answer_keeps_what_the_redirect_uri_says() -> None:
    state = "a&b=c ü".replace("ü", "%+")
    for uri in (LOOPBACK, "http://[::1]:1/x?app=1&b", *LISTED):
        url = answer_url(NativeRequest(uri, state, CHALLENGE), ISSUER, code="a-code")
        assert url.startswith(uri)
        said = parse_qs(urlsplit(url).query, keep_blank_values=True)
        assert {name: said[name] for name in ("code", "state", "iss")} == {
            "code": ["a-code"],
            "state": [state],
            "iss": [ISSUER],
        }
        assert ("app" in said) == ("app=1" in uri)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (SignInRefused(Reason.DENIED, ""), "access_denied"),
        (SignInRefused(Reason.NOT_ALLOWED, ""), "access_denied"),
        (SignInRefused(Reason.STALE, ""), "access_denied"),
        (SignInRefused(Reason.UNAVAILABLE, ""), "temporarily_unavailable"),
        (SignInRefused(Reason.TOO_MANY, ""), "temporarily_unavailable"),
        (SignInRefused(Reason.MISCONFIGURED, ""), "server_error"),
        (Unavailable(), "temporarily_unavailable"),
        (RateLimited(), "temporarily_unavailable"),
        (NotFound(), "invalid_request"),
        (Unauthenticated(), "access_denied"),
        (UsherError(), "server_error"),
    ],
)
def test_every_refusal_has_an_error_code_of_the_protocol(error: UsherError, word: str) -> None:
    url = refusal_url(NativeRequest(LOOPBACK, None, CHALLENGE), ISSUER, error)
    said = parse_qs(urlsplit(url).query)
    assert said == {"error": [word], "error_description": [error.code], "iss": [ISSUER]}


def test_the_user_sees_the_redirect_target() -> None:
    assert shown_target(LOOPBACK) == "127.0.0.1:49152"
    assert shown_target("com.example.app:/callback") == "com.example.app"
    assert shown_target("https://app.example/signed-in") == "app.example"
    assert is_on_this_machine(LOOPBACK)
    assert not any(map(is_on_this_machine, LISTED))
