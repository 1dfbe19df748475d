"""The server under test, and what is known about it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class ProviderSettings:
    """The provider that the kit runs, as the server under test is configured for it.

    Attributes:
        name: in OAUTH_PROVIDERS.
        host, port: where the kit listens.
        issuer: the URL under which the server reaches it, `ISSUER`; "": that of host and port.
        client_id, client_secret: as configured.
    """

    name: str
    host: str
    port: int
    issuer: str
    client_id: str
    client_secret: str


@dataclass(frozen=True)
class Target:
    """The server under test.

    Attributes:
        nodes: base URLs, one for each node to speak to. Acts go to the first; sockets that have to
            be cut are opened at the first and at the last.
        origin: the server's own origin, which browsers send.
        public_url: PUBLIC_URL, if it is known: `iss` of tokens has to be the same.
        admin_key: an API key, with all scopes if every case is to be run.
        admin_token: an administrator's access token, which may change roles.
        administrator: address and password of one who may sign in instead of `admin_token`.
        provider: None if the server is not configured for the kit's provider.
        allowance: seconds added to every bound, for the network and this machine.
        patience: seconds that a frame may take which the contract does not bound.
        timeout: seconds for an HTTP response, a handshake, and sending.
        join_timeout, max_unjoined, max_sockets, max_sessions, limit_signins, limit_refreshes,
            limit_tickets, limit_wrong_signins: the server's settings of these names; 0: no limit.
        step_up_seconds: that setting.
        app_audience: one of APP_AUDIENCES.
        exhaust: whether limits of the kit's own address may be used up, for an hour.
        email_domain: of the accounts that are made.
        tls: how certificates are verified. Made once: it takes longer than a request.
    """

    nodes: tuple[str, ...]
    origin: str
    public_url: str = ""
    admin_key: str | None = None
    admin_token: str | None = None
    administrator: tuple[str, str] | None = None
    provider: ProviderSettings | None = None
    allowance: float = 1.0
    patience: float = 10.0
    timeout: float = 10.0
    join_timeout: float = 5.0
    max_unjoined: int = 500
    max_sockets: int = 200
    max_sessions: int = 100
    limit_signins: int = 60
    limit_refreshes: int = 240
    limit_tickets: int = 1200
    limit_wrong_signins: int = 100
    step_up_seconds: float = 900.0
    app_audience: str | None = None
    exhaust: bool = False
    email_domain: str = "example.org"
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    @property
    def near(self) -> str:
        """The node that acts are sent to."""
        return self.nodes[0]

    @property
    def far(self) -> str:
        """Another node, if there are several."""
        return self.nodes[-1]

    @property
    def cut_seconds(self) -> float:
        """Within which a revoked socket is closed, on any node."""
        return 1.0 + self.allowance


def origin_of(url: str) -> str:
    """The origin of a URL (RFC 6454)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
