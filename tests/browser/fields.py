"""What a page shows at its fields."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.support.browser import Tab


def error_of(tab: Tab, field: str) -> None:
    """The field is marked, and its error belongs to its description."""
    expect(tab.at(field)).to_have_attribute("aria-invalid", "true")
    error = tab.at(f"{field}-error").inner_text()
    assert error
    first_line = error.splitlines()[0]
    expect(tab.at(field)).to_have_accessible_description(re.compile(re.escape(first_line)))
