"""What `make fuzz` has found, and where it begins, without a fuzzer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

NOT_UTF8 = (
    b'\xff{"iss": "http://usher.test", "aud": "usher", "sub": "u1", "siss": "te\xfft", '
    b'"sid": "s1", "jti": "j1", "iat": 1800000000.0, "exp": 1800000900.0, "role": "user"}'
)
"""Signed, with a byte that is not UTF-8 in a member of no meaning."""
FOUND: list[tuple[str, bytes]] = [("token_checks", NOT_UTF8)]


@pytest.mark.parametrize(("target", "data"), FOUND)
def test_what_was_found_holds_now(target: str, data: bytes) -> None:
    TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_holds(target: str) -> None:
    for data in seeds()[target]:
        TARGETS[target](data)


@given(target=st.sampled_from(sorted(TARGETS)), data=st.binary(max_size=300))
def test_any_bytes_hold(target: str, data: bytes) -> None:
    TARGETS[target](data)
