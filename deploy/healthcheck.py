"""Asks the server of this machine for /healthz, as HEALTHCHECK of the image does.

It needs no shell, no curl and none of Usher's modules. The exit status is 0 if the server answers
with 200, and 1 otherwise. The environment says where it listens: USHER_HOST, USHER_PORT and
USHER_TLS_CERTIFICATE.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping

TIMEOUT_SECONDS = 4.0
PATH = "/healthz"


def status_of(environment: Mapping[str, str]) -> int:
    """The HTTP status of /healthz.

    Args:
        environment: of the server.

    Raises:
        OSError: nothing answers in time.
        http.client.HTTPException: what answers does not speak HTTP.
        ValueError: USHER_PORT is not a number.
    """
    host = environment.get("USHER_HOST", "127.0.0.1")
    if host == "0.0.0.0":  # noqa: S104 - nothing is bound: the server listens on all addresses
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    port = int(environment.get("USHER_PORT", "8888"))
    connection: http.client.HTTPConnection
    if "USHER_TLS_CERTIFICATE" in environment:
        # The certificate is for the public name, and this connection does not leave the machine.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status
    finally:
        connection.close()


def main() -> int:
    """Returns the exit status."""
    try:
        status = status_of(os.environ)
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"{PATH}: {error!r}", file=sys.stderr)
        return 1
    if status != http.client.OK:
        print(f"{PATH}: {status}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
