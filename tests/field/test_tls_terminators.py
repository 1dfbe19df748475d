"""TLS terminators that forward bytes, with and without the PROXY protocol: docs/field.md."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.byte_proxies import FORGED, Front, seen_from
from tests.support.programs import listening
from tests.support.proxies import OTHER_CLIENT, trusting
from tests.support.raw import quiet_usher
from tests.support.redis_forms import certificate
from tests.support.server import Usher, bearer, close_code, connect, event, free_port, sign_up
from tests.support.tools import find_program

pytestmark = pytest.mark.slow

CASES = [
    ("hitch", "write-proxy-v1 = on"),
    ("hitch", "write-proxy-v2 = on"),
    ("stunnel4", "protocol = proxy"),
]
"""Programs, and their line for the PROXY protocol."""
MANY = 8
"""Connections after which both processes have had one, most likely."""
HITCH = """
frontend = {{ host = "127.0.0.1" port = "{port}" }}
backend = "[127.0.0.1]:{node}"
pem-file = "{pem}"
workers = 1
daemon = off
{line}
"""
STUNNEL = """
foreground = yes
pid =
[usher]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{node}
cert = {pem}
{line}
"""


@pytest.fixture(scope="module")
def pem() -> Iterator[Path]:
    """A certificate with its key, which clients of this process trust."""
    folder = Path(tempfile.mkdtemp(prefix="usher-tls-"))
    cert, key = certificate(folder)
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    both.chmod(0o600)
    with trusting(cert):
        yield both
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Usher]]:
    """Two that trust the terminator: with PROXY_PROTOCOL on, in two processes, and off."""
    with ExitStack() as stack:
        yield {
            each: stack.enter_context(
                quiet_usher(
                    "sqlite", TRUSTED_PROXIES="127.0.0.1", PROXY_PROTOCOL=each, PROCESSES=processes
                )
            )
            for each, processes in (("on", 2), ("off", 1))
        }


@contextmanager
def terminator(kind: str, line: str, node: Usher, pem: Path) -> Iterator[Front]:
    program, front = find_program(kind, kind), Front(free_port())
    text = (HITCH if kind == "hitch" else STUNNEL).format(
        port=front.port, node=node.port, pem=pem, line=line
    )
    file = pem.parent / f"{kind}-{front.port}.conf"
    file.write_text(text)
    command: list[Any] = [program, f"--config={file}"] if kind == "hitch" else [program, file]
    if kind == "hitch" and os.geteuid() == 0:
        command += ["--user=nobody"]  # it does not run as root
    with listening(command, pem.parent / "output.log", [front.port]):
        yield front


@pytest.mark.gen_test
@pytest.mark.parametrize(("kind", "line"), CASES)
async def test_with_the_proxy_protocol_the_clients_address_counts(
    kind: str, line: str, servers: dict[str, Usher], pem: Path
) -> None:
    with terminator(kind, line, servers["on"], pem) as front:
        for _ in range(MANY):
            assert seen_from(front, OTHER_CLIENT) == OTHER_CLIENT
        ada = sign_up(front.server)
        async with connect(front.server, subprotocols=bearer(ada.token)) as sock:
            await event(sock, "joined")
            assert ada.post("/api/auth/logout").status == 204
            assert await close_code(sock) == 4410


@pytest.mark.parametrize("kind", ["hitch", "stunnel4"])
def test_without_it_a_trusted_terminator_lets_clients_choose_their_address(
    kind: str, servers: dict[str, Usher], pem: Path
) -> None:
    """The reason for the setting, and for the warning in docs/operations.md."""
    with terminator(kind, "", servers["off"], pem) as front:
        assert seen_from(front, OTHER_CLIENT) == FORGED
