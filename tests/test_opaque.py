"""services/opaque.py: random credentials and their hashes."""

from __future__ import annotations

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from services.opaque import opaque_token, random_id, token_hash


def test_a_token_has_256_random_bits_and_a_prefix_when_asked() -> None:
    found = {opaque_token().reveal() for _ in range(100)}
    assert len(found) == 100
    assert {len(token) for token in found} == {43}
    assert opaque_token("usher_").reveal().startswith("usher_")


def test_a_token_does_not_print() -> None:
    token = opaque_token()
    assert token.reveal() not in f"{token} {token!r}"


def test_the_hash_is_sha_256_in_hex() -> None:
    assert token_hash("abc") == hashlib.sha256(b"abc").hexdigest()


@given(st.text())
def test_any_text_has_a_hash(text: str) -> None:
    assert len(token_hash(text)) == 64
    assert len(token_hash(text + "\udcff")) == 64


def test_an_id_is_22_url_safe_characters_and_never_the_same() -> None:
    ids = {random_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", each) for each in ids)
    letters = set("".join(ids))
    assert {"-", "_", "a", "Z", "0"} <= letters  # of the whole alphabet
