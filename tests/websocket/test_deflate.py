"""Which offers of permessage-deflate are granted, and how many sockets may have it."""

from __future__ import annotations

import pytest

from handlers.websocket.deflate import Compression, acceptable_offer

BARE = "permessage-deflate"


@pytest.mark.parametrize(
    "offer",
    [
        BARE,
        "Permessage-Deflate",
        f"{BARE}; client_max_window_bits",  # Chromium, and Python's websockets
        f"{BARE}; client_max_window_bits=10",
        f"{BARE}; client_no_context_takeover",
        f"{BARE};client_max_window_bits ; client_no_context_takeover",
        f"x-webkit-deflate-frame, {BARE}",
        f"{BARE}; server_no_context_takeover, {BARE}",
    ],
)
def test_an_offer_with_nothing_but_hints_is_shown_to_tornado_bare(offer: str) -> None:
    assert acceptable_offer([offer]) == BARE


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_window_of_the_server_that_zlib_has_is_granted(bits: int) -> None:
    wanted = f"{BARE}; server_max_window_bits={bits}"
    assert acceptable_offer([wanted]) == wanted
    assert (
        acceptable_offer([f'{BARE}; client_max_window_bits; server_max_window_bits="{bits}"'])
        == wanted
    )


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "permessage-bzip2",
        f"{BARE}; server_no_context_takeover",
        f"{BARE}; server_no_context_takeover; client_max_window_bits",
        f"{BARE}; server_max_window_bits=8",
        f"{BARE}; server_max_window_bits=16",
        f"{BARE}; server_max_window_bits=09",
        f"{BARE}; server_max_window_bits",
        f"{BARE}; client_max_window_bits=7",
        f"{BARE}; client_max_window_bits; client_max_window_bits",
        f"{BARE}; client_no_context_takeover=1",
        f"{BARE}; level=9",
    ],
)
def test_an_offer_that_tornado_would_answer_wrongly_is_declined(offer: str) -> None:
    assert acceptable_offer([offer]) is None


def test_several_headers_count_as_one_list() -> None:
    assert acceptable_offer([f"{BARE}; server_no_context_takeover", BARE]) == BARE


def test_no_more_sockets_are_compressed_than_are_allowed() -> None:
    compression = Compression(2)
    assert [compression.take() for _ in range(3)] == [True, True, False]
    compression.give_back()
    assert compression.take()
    assert compression.count == 2
    assert not Compression(0).take(), "off"
