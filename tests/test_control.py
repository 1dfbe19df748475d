"""The seam between nodes: whoever listens hears what is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from services.control import Control, Revocation
from tests.support.parts import node, open_socket

ENTRY = Revocation("session", "sid", "ada", "logout", 1.0, 7)


@pytest.mark.gen_test
async def test_every_listener_hears_what_is_published() -> None:
    control, heard = Control(), list[Sequence[Revocation]]()
    control.on_revocations(heard.append)
    control.on_revocations(heard.append)
    await control.publish([ENTRY])
    assert heard == [[ENTRY], [ENTRY]]


@pytest.mark.gen_test
async def test_publishing_to_nobody_is_no_fault() -> None:
    await Control().publish([ENTRY])


@pytest.mark.gen_test
async def test_a_node_acts_upon_what_it_hears_once(tmp_path: Path) -> None:
    async with node(tmp_path) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login)
        entry = Revocation("session", login.claims.sid, login.user.id, "logout", 1.0, 7)
        await parts.control.publish([entry])
        assert await peer.close_code() == 4410
        assert parts.revocations.names(login.claims)
        await parts.control.publish([entry])
        assert parts.count("usher_sockets_revoked_total", reason="logout") == 1
