"""The listening sockets of a server, for one process or for several on one port.

On Linux each process has a listening socket of its own (SO_REUSEPORT), and the kernel spreads new
connections evenly. Elsewhere SO_REUSEPORT does not balance, and the processes accept from one
socket. The supervisor keeps all of them open: what arrives while a process is started again waits
in the queue of its socket, and is not refused.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence

from tornado.netutil import bind_sockets

from services.errors import SettingError

BACKLOG = 1024


def bind(host: str, port: int, processes: int = 1) -> list[list[socket.socket]]:
    """Bind and listen.

    The port is bound exclusively first, and shared only then: SO_REUSEPORT from the beginning
    would also succeed beside another server of this user, and take a part of its connections.

    Args:
        port: 0 for any free one.

    Returns:
        For each process its sockets, one for each address of `host`.

    Raises:
        SettingError: the port is in use or not permitted, or `host` is not of this machine.
    """
    try:
        first = bind_sockets(port, host, backlog=BACKLOG)
        try:
            return [first, *(_siblings(first) for _ in range(processes - 1))]
        except OSError:
            close(first)
            raise
    except OSError as error:
        why = error.strerror or str(error)
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            got, takes = f"{host} ({why})", "an address or a name of this machine"
            raise SettingError("USHER_HOST", got, takes) from error
        got = f"{port} on {host} ({why})"
        raise SettingError("USHER_PORT", got, "a free port, or 0 for any") from error


def close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _siblings(first: Sequence[socket.socket]) -> list[socket.socket]:
    balanced = sys.platform == "linux"
    return [_sibling(sock) if balanced else sock.dup() for sock in first]


def _sibling(first: socket.socket) -> socket.socket:
    """Another socket that listens at the same address."""
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock = socket.socket(first.family, first.type, first.proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if first.family == socket.AF_INET6:  # as bind_sockets has it
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(first.getsockname())
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
