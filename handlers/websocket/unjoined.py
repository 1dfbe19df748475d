"""Limits the connections of one address that have not joined.

They are idle connections, HTTP connections, and sockets before their `user-join`. Each uses a file
descriptor, and a node has a limited number of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from services.limits.networks import network_of
from services.settings.proxies import PEERS_KNOWN, Proxies


class UnjoinedConnections:
    """Counts connections that have not joined, by address.

    A connection of a trusted proxy is nobody's: its clients are counted one by one, once they ask
    for a socket.

    Args:
        most: of one address.
        proxies: who is trusted to say for whom they speak.
        elsewhere: how many an address has on other nodes.
    """

    def __init__(
        self, most: int, proxies: Proxies, elsewhere: Callable[[str], int] = lambda _: 0
    ) -> None:
        self._most, self._proxies, self._elsewhere = most, proxies, elsewhere
        self._network_of = functools.lru_cache(PEERS_KNOWN)(network_of)
        self._counts: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many each address has here."""
        return self._counts

    def connected(self, peer_ip: str) -> str | None:
        """A connection came. Gives what to `leave` with; "" for one that is not counted, None for
        one too many."""
        if not peer_ip or self._proxies.is_trusted(peer_ip):
            return ""
        return self._enter(self._network_of(peer_ip))

    def upgraded(self, peer_ip: str, headers: Mapping[str, str]) -> str | None:
        """A connection became a socket that has not joined. Gives the same."""
        if self._proxies.is_trusted(peer_ip):
            return self._enter(self._network_of(self._proxies.client_ip(peer_ip, headers)))
        # Counted as a connection, which it is no more in a moment.
        group = self._network_of(peer_ip)
        self._counts[group] = self._counts.get(group, 0) + 1
        return group

    def refused(self, client_ip: str) -> str:
        """A connection became a socket that is only told why it is refused. Gives the same.

        It is counted whatever the limit: it is there until its closing handshake is over.
        """
        if not client_ip:
            return ""
        group = self._network_of(client_ip)
        self._counts[group] = self._counts.get(group, 0) + 1
        return group

    def leave(self, group: str) -> None:
        """It has joined, or is gone."""
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
