"""Limits the connections of one address that have not joined.

They are idle connections, HTTP connections, and sockets before their `user-join`. Each uses a file
descriptor, and a node has a limited number of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from services.limits.networks import network_of
from services.settings.proxies import PEER_CACHE_SIZE, Proxies


class UnjoinedConnections:
    """Counts connections that have not joined, by address.

    Connections of a trusted proxy are not counted. Its clients are counted once they request a
    socket.

    Args:
        most: the limit of one address.
        proxies: the trusted proxies.
        elsewhere: how many connections an address has on other nodes.
    """

    def __init__(
        self, most: int, proxies: Proxies, elsewhere: Callable[[str], int] = lambda _: 0
    ) -> None:
        self._most, self._proxies, self._elsewhere = most, proxies, elsewhere
        self.network_of = functools.lru_cache(PEER_CACHE_SIZE)(network_of)
        self._counts: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of connections on this node, by address."""
        return self._counts

    def network(self, peer_ip: str, headers: Mapping[str, str]) -> str:
        """The network that a request comes from, behind whichever trusted proxies."""
        return self.network_of(self._proxies.client_ip(peer_ip, headers))

    def connected(self, peer_ip: str) -> str | None:
        """Count a new connection. Returns the argument for `leave`; "" if the connection is not
        counted, None if it exceeds the limit."""
        if not peer_ip or self._proxies.is_trusted(peer_ip):
            return ""
        return self._enter(self.network_of(peer_ip))

    def upgraded(self, peer_ip: str, headers: Mapping[str, str]) -> str | None:
        """Count a connection that became a socket. Returns the same as `connected`."""
        if self._proxies.is_trusted(peer_ip):
            return self._enter(self.network_of(self._proxies.client_ip(peer_ip, headers)))
        # Still counted as a connection too, until its group is left.
        group = self.network_of(peer_ip)
        self._counts[group] = self._counts.get(group, 0) + 1
        return group

    def refused(self, client_ip: str) -> str:
        """A connection became a socket that only receives the reason of its refusal. Returns as
        above.

        It is counted whatever the limit: it is there until its closing handshake is over.
        """
        if not client_ip:
            return ""
        group = self.network_of(client_ip)
        self._counts[group] = self._counts.get(group, 0) + 1
        return group

    def leave(self, group: str) -> None:
        """Stop counting a connection, because it has joined or is closed."""
        left = self._counts.get(group, 0) - 1
        if left > 0:
            self._counts[group] = left
        else:
            self._counts.pop(group, None)

    def _enter(self, group: str) -> str | None:
        count = self._counts.get(group, 0)
        if count + self._elsewhere(group) >= self._most:
            return None
        self._counts[group] = count + 1
        return group
