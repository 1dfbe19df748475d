"""hmac_sha256.py: the same as the standard library, for every key and message."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.hmac_sha256 import HmacSha256

CASES = (
    (b"\x0b" * 20, b"Hi There"),
    (b"Jefe", b"what do ya want for nothing?"),
    (bytes(range(1, 26)), b"\xcd" * 50),
    (b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First"),
)
MACS = (
    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
)
"""RFC 4231 section 4: cases 1, 2, 4 and 6."""


@pytest.mark.parametrize(("case", "mac"), list(zip(CASES, MACS, strict=True)))
def test_the_vectors_of_rfc_4231(case: tuple[bytes, bytes], mac: str) -> None:
    key, message = case
    assert HmacSha256(key).digest(message).hex() == mac


@given(key=st.binary(max_size=200), messages=st.lists(st.binary(max_size=300), max_size=3))
@example(key=b"", messages=[b""])
@example(key=b"k" * 64, messages=[b"", b"again"])
@example(key=b"k" * 65, messages=[b"x" * 5000, b""])
def test_each_message_has_the_mac_that_the_standard_library_gives_it(
    key: bytes, messages: list[bytes]
) -> None:
    mac = HmacSha256(key)
    for message in messages:
        assert mac.digest(message) == hmac.digest(key, message, "sha256")
