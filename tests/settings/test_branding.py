"""The installation's name, logo and colour: always readable, and no injection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import SettingError
from services.settings.branding import (
    DARK,
    LIGHT,
    MAX_LOGO_BYTES,
    MIN_CONTRAST,
    Background,
    Branding,
    Colour,
    contrast,
    palette,
    read_colour,
    read_logo,
    stylesheet,
)
from tests.support.server import ROOT

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
BYTE = st.integers(0, 255)


def of(css: str) -> Colour:
    colour = read_colour(css)
    assert colour is not None
    return colour


@given(BYTE, BYTE, BYTE)
def test_any_colour_can_be_read_on_either_ground(red: int, green: int, blue: int) -> None:
    for ground in (LIGHT, DARK):
        found = palette(Colour(red, green, blue), ground)
        for behind in (ground.surface, *ground.others, of(found.tint)):
            assert contrast(of(found.text), behind) >= MIN_CONTRAST
        assert contrast(of(found.on_fill), of(found.fill)) >= MIN_CONTRAST
        assert of(found.fill) == Colour(red, green, blue), "buttons have the colour itself"


def test_a_colour_that_can_be_read_stays_as_it_is() -> None:
    assert palette(of("#0b5c63"), LIGHT).text == "#0b5c63"
    assert palette(of("#86cbcb"), DARK).text == "#86cbcb"


@pytest.mark.parametrize(("ground", "block"), [(LIGHT, 0), (DARK, 1)])
def test_the_grounds_are_those_of_the_style_sheet(ground: Background, block: int) -> None:
    style = (ROOT / "static/style.css").read_text()
    said = {
        name: of(re.findall(rf"--{name}: (#[0-9a-f]+)", style)[block])
        for name in ("surface", "ground", "sunk")
    }
    assert said == {"surface": ground.surface, "ground": ground.others[0], "sunk": ground.others[1]}


def test_contrast_is_that_of_wcag() -> None:
    assert contrast(of("#000"), of("#fff")) == pytest.approx(21)
    assert contrast(of("#777"), of("#fff")) == pytest.approx(4.48, abs=0.01)


def test_the_style_sheet_has_what_was_chosen_and_nothing_where_nothing_was() -> None:
    assert stylesheet(Branding()) == ""
    style = stylesheet(Branding(accent=of("#ffcc00")))
    assert "--fill: #ffcc00; --on-fill: #000000" in style
    assert style.count("{") == style.count("}")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (SVG, "image/svg+xml"),
    ],
)
def test_a_file_is_what_its_first_bytes_say(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "logo"
    path.write_bytes(content)
    logo = read_logo(str(path), "APP_LOGO", None)
    assert (logo.content, logo.media_type, logo.url) == (content, kind, "")


@pytest.mark.parametrize(
    "content", [b"", b"<html><script>", b"#!/bin/sh", PNG + bytes(MAX_LOGO_BYTES)]
)
def test_a_file_that_is_no_logo_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "logo.png"
    path.write_bytes(content)
    with pytest.raises(SettingError):
        read_logo(str(path), "APP_LOGO", None)
    for other in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SettingError):
            read_logo(str(other), "APP_LOGO", None)


def test_a_url_is_of_the_own_origin() -> None:
    own = "https://usher.example"
    assert read_logo(f"{own}:443/logo.png", "APP_LOGO", own).url == f"{own}:443/logo.png"
    for url in (
        "https://elsewhere.example/logo.png",
        "https://usher.example.evil.example/logo.png",
        "https://usher.example:8443/logo.png",
        "http://usher.example/logo.png",
        "https:///logo.png",
    ):
        with pytest.raises(SettingError):
            read_logo(url, "APP_LOGO", own)
    with pytest.raises(SettingError):
        read_logo(f"{own}/logo.png", "APP_LOGO", None)
