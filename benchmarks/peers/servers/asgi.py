"""An ASGI application on uvicorn: uvloop, httptools, and the WebSocket protocol of `websockets`."""

from __future__ import annotations

import os
from typing import Any

import uvicorn

from benchmarks.peers.servers.job import address

BACKLOG = 2048


def serve(app: Any) -> None:
    """Serve until SIGTERM, on the port that the benchmark chose."""
    port = int(os.environ["PEER_PORT"])
    print(address(port), flush=True)  # the benchmark connects until somebody accepts
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        log_level="error",
        access_log=False,
        backlog=BACKLOG,
    )
