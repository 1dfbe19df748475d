"""E-mail addresses and display names: normalisation, and no invisible characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.accounts.display_names import MAX_NAME_LENGTH, checked_name
from services.errors import (
    BadRequest,
)
from services.registration.addresses import MAX_EMAIL_LENGTH, normalised_email


@pytest.mark.parametrize(
    ("email", "spelling"),
    [
        ("ada@example.org", "ada@example.org"),
        ("  Ada.Lovelace+x@EXAMPLE.org \n", "ada.lovelace+x@example.org"),
        ("ada@example.org.", "ada@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ADA@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ａｄａ＠ｅｘａｍｐｌｅ．ｏｒｇ", "ada@example.org"),  # noqa: RUF001 - full width
        ("ze\u0301ro@example.org", "zéro@example.org"),
        ("ZÉRO@example.org", "zéro@example.org"),
        ("straße@example.org", "strasse@example.org"),
        ("ﬁn@example.org", "fin@example.org"),
        ("δοκιμή@παράδειγμα.δοκιμή", "δοκιμή@xn--hxajbheg2az3al.xn--jxalpdlp"),
        ("o'hara!#$%&*/=?^_`{|}~-@example.org", "o'hara!#$%&*/=?^_`{|}~-@example.org"),
        ("ada@localhost", "ada@localhost"),
    ],
)
def test_an_address_has_one_spelling(email: str, spelling: str) -> None:
    assert normalised_email(email) == spelling
    assert normalised_email(spelling) == spelling


@pytest.mark.parametrize(
    "email",
    [
        "",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "ada@@example.org",
        "a@da@example.org",
        "ada lovelace@example.org",
        "ada@exa mple.org",
        "ada@example..org",
        "ada@.org",
        f"ada@{'x' * 64}.org",
        f"{'a' * MAX_EMAIL_LENGTH}@example.org",
        "ada@example.org\nbcc: eve@example.org",
        "ada\x00@example.org",
        "ada\x85@example.org",
        '"ada"@example.org',
        "Ada <ada@example.org>",
        "ada@[127.0.0.1]",
        "ada,eve@example.org",
        "ada@example.org,eve@example.org",
        "ada\u200b@example.org",
        "ada\u00ad@example.org",
        "\u202eada@example.org",
        "ada\ufeff@example.org",
        "ada\ud800@example.org",
        "ada@exam\ud800ple.org",
        "ada\ue000@example.org",
    ],
)
def test_what_cannot_be_an_address_or_cannot_be_seen_is_refused(email: str) -> None:
    with pytest.raises(BadRequest) as caught:
        normalised_email(email)
    assert set(caught.value.public) == {"field", "detail"}
    assert caught.value.public["field"] == "email"
    assert str(caught.value.public["detail"]).startswith("email: ")
    assert "ada" not in str(caught.value.public), "no address in an answer"
    assert "ada" not in str(caught.value), "no address in an error"


letters = st.characters(codec="utf-8")


@given(st.text(letters, max_size=12), st.text(letters, max_size=12) | st.just("example.org"))
def test_a_spelling_once_found_stays_and_is_visible(local: str, domain: str) -> None:
    try:
        found = normalised_email(f"{local}@{domain}")
    except BadRequest:
        return
    assert normalised_email(found) == found
    assert normalised_email(f" {found.upper()} ").isprintable()
    assert found.isprintable()
    assert found.partition("@")[2].isascii()


@given(st.text("abcxyzäöüéñ.+-_0", min_size=1, max_size=20))
def test_case_and_composition_do_not_distinguish_addresses(local: str) -> None:
    one = normalised_email(f"{local}@example.org")
    assert normalised_email(f"{local.upper()}@EXAMPLE.ORG") == one


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("  Ada ", "Ada"),
        ("Jose\u0301", "José"),
        ("李小龍", "李小龍"),
        ("نمی\u200cدونم", "نمی\u200cدونم"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("x" * MAX_NAME_LENGTH, "x" * MAX_NAME_LENGTH),
        ("<b>Ada</b>", "<b>Ada</b>"),
    ],
)
def test_a_name_is_kept_as_users_write_it(name: str, shown: str) -> None:
    assert checked_name(name) == shown


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "x" * (MAX_NAME_LENGTH + 1),
        "Ada\x00",
        "Ada\nadmin",
        "Ada\x1b[31m",
        "\u202enimda",
        "A\u2028da",
        "\ud800",
        "\u200b",
        "\u2060\ufeff",
        "\u200d",
        "\u200f",
    ],
)
def test_a_name_that_cannot_be_seen_or_reads_as_another_is_refused(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        checked_name(name)
    assert set(caught.value.public) == {"field", "detail"}
    assert caught.value.public["field"] == "name"
    assert str(caught.value.public["detail"]).startswith("name: ")
