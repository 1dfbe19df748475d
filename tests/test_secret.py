"""services/secret.py: a secret shows only where it is asked for."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import msgspec
import pytest

from services.secret import Secret

HIDDEN = "correct horse battery staple"


def test_every_kind_of_printing_shows_the_mask() -> None:
    secret = Secret(HIDDEN)
    record = logging.LogRecord("usher", logging.INFO, "", 0, "%s %r", (secret, secret), None)
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>90}",
        f"{secret:40}",
        "%s" % secret,  # noqa: UP031 - this spelling is what is tested
        repr([secret]),
        repr({"key": secret}),
        record.getMessage(),
        repr(ValueError(secret)),
    ]
    assert all("****" in text and HIDDEN not in text for text in shown)


def test_reveal_gives_the_value_back() -> None:
    assert Secret(HIDDEN).reveal() == HIDDEN


def test_equal_values_are_equal_secrets_and_hash_alike() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ä\udcff") == Secret("ä\udcff")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_is_not_equal_to_the_bare_text() -> None:
    assert Secret("a") != "a"
    assert hash(Secret("a")) != hash("a")


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret("a")


@pytest.mark.parametrize("write", [json.dumps, msgspec.json.encode, pickle.dumps, copy.copy])
def test_a_secret_is_not_serialised_by_accident(write: object) -> None:
    assert callable(write)
    with pytest.raises(TypeError) as refused:
        write({"token": Secret(HIDDEN)}) if write is not copy.copy else write(Secret(HIDDEN))
    assert HIDDEN not in str(refused.value)


def test_a_secret_has_no_dict_to_dump() -> None:
    assert not hasattr(Secret(HIDDEN), "__dict__")
