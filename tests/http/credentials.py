"""What a user signs in with, and a server that browsers reach by https."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.server import PASSWORD, Usher, usher

OTHER_PASSWORD = "nine slow barges 41"
ALLOWED = "https://app.example.org"
PUBLIC = "https://usher.example.org"


@pytest.fixture(scope="module")
def behind_https(database_kind: str) -> Iterator[Usher]:
    """An Usher that browsers reach by https, with one more origin allowed."""
    with usher(database_kind, PUBLIC_URL=PUBLIC, ALLOWED_ORIGINS=ALLOWED) as server:
        yield server


def credentials(email: str, **more: Any) -> dict[str, Any]:
    return {"email": email, "password": PASSWORD, **more}
