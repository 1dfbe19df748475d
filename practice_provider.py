"""`make run-with-idp`: Usher beside an OpenID provider to practise with, on this machine only.

The provider is oidc-provider-mock, a real server on 127.0.0.1 that lets anybody in as anybody, so
nothing has to be registered anywhere. It is a process of its own, and so is `server.py`; this one
starts both and ends both: on a signal, when it dies (on Linux), or when one of them ends.

Flags and `USHER_…` variables are those of server.py. PRACTICE_PORT is the provider's port.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from services.embedded.child_process import tied_to_parent

ROOT = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PORT_VARIABLE, USUAL_PORT = "PRACTICE_PORT", "9400"
NAME = "practice"
PEOPLE: tuple[dict[str, Any], ...] = (
    {
        "sub": "ada",
        "name": "Ada Lovelace",
        "email": "ada@example.org",
        "email_verified": True,
        "groups": ["admins", "staff"],
    },
    {
        "sub": "grace",
        "name": "Grace Hopper",
        "email": "grace@example.org",
        "email_verified": True,
        "groups": ["staff"],
    },
)
"""Whom the provider has a button for. `groups` is there to practise a role claim with."""

START_SECONDS, LOOK_SECONDS = 30.0, 0.05
END_SECONDS = 20.0
"""What server.py may take to send its sockets away and to stop its Redis."""
LAST_WORDS = 2000
"""Characters of the provider's log that are kept, for when it ends by itself."""

STEPS = """\
  Practice  {issuer}, a provider that lets anybody in as anybody

  1. Open {url} and choose "Continue with Practice provider".
  2. On the provider's page choose {people}: no password. Or Deny, to see a refusal.
  3. You are back, and signed in. Whoever comes first is the administrator.

"""


class PracticeFailed(Exception):
    """The provider can't be started, or has ended by itself."""


def main() -> int:
    """Run both until they are to stop. Gives the exit status."""
    try:
        return asyncio.run(practise(os.environ, sys.argv[1:]))
    except PracticeFailed as error:
        sys.stderr.write(f"usher: practice provider: {error}\n")
        return 1


async def practise(environ: Mapping[str, str], flags: Sequence[str]) -> int:
    """Run the provider, and Usher beside it. Gives Usher's exit status.

    Args:
        environ: the environment.
        flags: for server.py.

    Raises:
        PracticeFailed: the provider can't be started, or has ended by itself.
    """
    stop = asyncio.create_task(_signals().wait())
    port = free_port(environ.get(PORT_VARIABLE, USUAL_PORT))
    # Without the variables of Usher: there may be secrets among them.
    others = {name: text for name, text in environ.items() if not name.startswith("USHER_")}
    usher = [str(ROOT / "server.py"), *flags]
    async with _beside(provider_command(port), others, asyncio.subprocess.STDOUT) as provider:
        gone = asyncio.create_task(_last_words(provider))
        connected = asyncio.create_task(_connected(port))
        await _first_of(stop, gone, connected, seconds=START_SECONDS)
        if connected.done() and not gone.done() and not stop.done():
            async with _beside(usher, usher_environment(environ, port), None) as server:
                shown = asyncio.create_task(_show(server, port))
                await _first_of(stop, gone, shown)
                if shown.done() and not stop.done():
                    return shown.result()
        if stop.done():
            return 0
        raise PracticeFailed(gone.result() if gone.done() else "it does not answer")


def free_port(text: str) -> int:
    """The provider's port, if it is to be had.

    Not just any: accounts are linked to this provider by its address, so it has to keep it.

    Raises:
        PracticeFailed: it is no port, or it is taken.
    """
    if not text.isdecimal() or len(text) > 5 or not 0 < int(text) < 65536:
        raise PracticeFailed(f"{PORT_VARIABLE}: got {text[:20]!r}, takes a port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, int(text)))
        except OSError as error:
            other = f"{PORT_VARIABLE}={int(text) % 65535 + 1}"
            raise PracticeFailed(f"port {text}: {error.strerror}; take another: {other}") from error
    return int(text)


def provider_command(port: int) -> list[str]:
    """How the provider is started, after the interpreter's name."""
    people = [part for person in PEOPLE for part in ("--user-claims", json.dumps(person))]
    return ["-I", "-m", "oidc_provider_mock", "--host", HOST, "--port", str(port), *people]


def usher_environment(environ: Mapping[str, str], port: int) -> dict[str, str]:
    """The user's environment, with the provider among those that one can sign in with."""
    chosen = [name.strip() for name in environ.get("USHER_OAUTH_PROVIDERS", "").split(",")]
    names = dict.fromkeys([*filter(None, chosen), NAME])
    usual = {
        # Not ./data: an account of this provider must not be the administrator of a real one.
        # One for each port, as the provider of another port is another provider.
        "USHER_DATA_DIR": str(ROOT / "data-practice" / str(port)),
        "USHER_OAUTH_PRACTICE_TITLE": "Practice provider",
    }
    given = {
        "USHER_OAUTH_PROVIDERS": ",".join(names),
        "USHER_OAUTH_PRACTICE_ISSUER": f"http://{HOST}:{port}",
        "USHER_OAUTH_PRACTICE_CLIENT_ID": "usher",
        "USHER_OAUTH_PRACTICE_CLIENT_SECRET": secrets.token_urlsafe(16),  # it takes any
    }
    return {**usual, **environ, **given}


@asynccontextmanager
async def _beside(
    command: Sequence[str], environ: Mapping[str, str], errors: int | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program that runs beside this one, until the end of the block.

    Args:
        errors: where its stderr goes; None for this one's.
    """
    process = await asyncio.create_subprocess_exec(
        *tied_to_parent([sys.executable, *command]),
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # Ctrl+C is for this one, which ends Usher before the provider
    )
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    for end in (process.terminate, process.kill):
        with suppress(ProcessLookupError):
            end()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), END_SECONDS)
            return


def _signals() -> asyncio.Event:
    """An event that is set by SIGINT and SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _first_of(*tasks: asyncio.Task[Any], seconds: float | None = None) -> None:
    """Wait until one of them is done, or the time is up."""
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


async def _connected(port: int) -> None:
    """Wait until the provider takes connections."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """Wait until the provider has ended; gives what it said at last."""
    assert process.stdout is not None
    said = b""
    while more := await process.stdout.read(LAST_WORDS):
        said = (said + more)[-LAST_WORDS:]
    return f"it has ended, with status {await process.wait()}\n{said.decode(errors='replace')}"


async def _show(process: asyncio.subprocess.Process, port: int) -> int:
    """Pass Usher's start screen on, with what to do now above its last line; then wait until it
    has ended. Gives its exit status."""
    assert process.stdout is not None
    url = ""
    async for line in process.stdout:
        text = line.decode()
        if found := re.match(r"\s+Open\s+(\S+)", text):
            url = found[1]
        if "Stop with" in text:
            people = " or ".join(person["sub"] for person in PEOPLE)
            sys.stdout.write(STEPS.format(issuer=f"http://{HOST}:{port}", url=url, people=people))
        sys.stdout.write(text)
        sys.stdout.flush()
    status = await process.wait()
    return status if status >= 0 else 128 - status  # ended by a signal, as shells say it


if __name__ == "__main__":
    sys.exit(main())
