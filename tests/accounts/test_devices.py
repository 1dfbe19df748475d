from __future__ import annotations

import pytest

from services.accounts.devices import MAX_TOKENS, Devices
from services.keyed_tokens import Checksums, Keyring
from services.secret import Secret

OLD, NEW = (
    Secret("an old secret of the tests, 32 bytes"),
    Secret("a new secret of the tests, 32 bytes"),
)


def known_by(*secrets: Secret) -> Devices:
    return Devices(Checksums(Keyring(secrets, "device")))


ADA, EVE = "ada@example.org", "eve@example.org"


def test_a_device_is_known_to_the_account_that_signed_in_on_it_alone() -> None:
    devices = known_by(NEW)
    token = devices.token(ADA)
    assert devices.recognise(token, ADA) == token.partition(".")[0]
    assert devices.recognise(token, EVE) is None
    assert "ada" not in token
    assert devices.token(ADA) != token


def test_a_browser_is_known_to_all_users_who_signed_in_on_it_recently() -> None:
    devices = known_by(NEW)
    kept = ""
    people = [f"u{number}@example.org" for number in range(MAX_TOKENS + 1)]
    for person in people:
        kept = devices.keep(devices.keep(kept, person), person)
    assert [devices.recognise(kept, person) is not None for person in people] == [
        False,
        *[True] * MAX_TOKENS,
    ]


def test_a_rotation_of_secrets_keeps_devices_until_the_old_one_is_removed() -> None:
    token = known_by(OLD).token(ADA)
    assert known_by(NEW, OLD).recognise(token, ADA)
    assert known_by(NEW).recognise(token, ADA) is None


@pytest.mark.parametrize("junk", ["", ".", "~", "~~.~", "x.y", "ü.ü", "\ud800", "a" * 5000])
def test_junk_is_no_device(junk: str) -> None:
    devices = known_by(NEW)
    assert devices.recognise(junk, ADA) is None
    assert devices.recognise(devices.keep(junk, ADA), ADA) is not None


def test_a_changed_token_is_no_device() -> None:
    devices = known_by(NEW)
    token = devices.token(ADA)
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        assert devices.recognise(token[:place] + other + token[place + 1 :], ADA) is None
