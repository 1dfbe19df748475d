"""Installations below paths of one host, behind the proxies of docs/proxies."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from tests.support.http_servers import Silent, serving
from tests.support.programs import listening
from tests.support.proxies import find, temporary_paths
from tests.support.server import ROOT, Client, Usher, free_port, sign_up, usher

FILES = {"nginx": "nginx-path.conf", "caddy": "Caddyfile-path", "haproxy": "haproxy-path.cfg"}
KEPT, STRIPPED = "/usher", "/staff"
PATHS = (KEPT, STRIPPED)


@dataclass(frozen=True)
class Below:
    """Where clients reach an installation. `url`: without a slash at its end."""

    url: str

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def ws(self) -> str:
        return f"ws{self.url[4:]}/ws"

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def as_server(self) -> Usher:
        """For clients that are made for an Usher: they ask it for its addresses only."""
        return cast("Usher", self)


class App(Silent, BaseHTTPRequestHandler):
    """The other software on the host: answers with the path and the cookies that reached it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path}\n{self.headers.get('Cookie', '')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass(frozen=True)
class Installations:
    """Two installations and an app, for a proxy on one port.

    Attributes:
        nodes: by the path of each.
        founders: who made the first account of each, and knows it behind the proxy.
    """

    port: int
    nodes: dict[str, Usher]
    founders: dict[str, Client]
    app: int

    @property
    def url(self) -> str:
        """The host, by a name: an address has no passkeys."""
        return f"http://localhost:{self.port}"


@contextmanager
def two_installations(database: str, **settings: object) -> Iterator[Installations]:
    """One whose path the proxy keeps, and one whose path it strips."""
    port = free_port()
    url = f"http://localhost:{port}"
    same = {"TRUSTED_PROXIES": "127.0.0.1", **settings}
    with ExitStack() as stack:
        kept = stack.enter_context(usher(database, PUBLIC_URL=url + KEPT, **same))
        staff = {"PUBLIC_URL": url + STRIPPED, "PUBLIC_URL_PATH": "stripped"}
        stripped = stack.enter_context(usher(database, **staff, **same))
        founders = {KEPT: sign_up(Below(kept.url + KEPT).as_server), STRIPPED: sign_up(stripped)}
        for path, founder in founders.items():
            founder.server = Below(url + path).as_server
        app_port = stack.enter_context(serving(App))
        yield Installations(port, {KEPT: kept, STRIPPED: stripped}, founders, app_port)


@contextmanager
def front(kind: str, behind: Installations) -> Iterator[None]:
    """A proxy on the file of docs/proxies."""
    folder = Path(tempfile.mkdtemp(prefix="usher-path-"))
    command = _configured(kind, behind, folder)
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    try:
        with listening(command, folder / "output.log", [behind.port], own):
            yield
    finally:
        shutil.rmtree(folder)


def _configured(kind: str, behind: Installations, folder: Path) -> list[Any]:
    """Write the file with these addresses. Returns the command that runs it."""
    port, file = behind.port, folder / FILES[kind]
    text = (ROOT / "docs" / "proxies" / FILES[kind]).read_text()
    changes = {
        "127.0.0.1:8888": f"127.0.0.1:{behind.nodes[KEPT].port}",
        "127.0.0.1:8889": f"127.0.0.1:{behind.nodes[STRIPPED].port}",
        "127.0.0.1:9000": f"127.0.0.1:{behind.app}",
    }
    command: list[Any] = [find(kind)]
    if kind == "nginx":
        temporary = temporary_paths(folder)
        changes |= {
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "listen 8080;": f"listen 127.0.0.1:{port};",
            "    access_log off;\n": f"    access_log off;\n{temporary}",
        }
        command += ["-e", folder / "nginx.log", "-p", folder, "-c", file, "-g", "daemon off;"]
    elif kind == "caddy":
        changes |= {"http://:8080 {": f"http://:{port} {{\n\tbind 127.0.0.1"}
        command += ["run", "--config", file, "--adapter", "caddyfile"]
    else:
        changes |= {"bind :8080": f"bind 127.0.0.1:{port}"}
        command += ["-db", "-f", file]
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)
    return command
