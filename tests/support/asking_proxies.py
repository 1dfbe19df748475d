"""nginx (auth_request) and Caddy (forward_auth) on the configurations of docs/proxies, and an app
that they protect."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.http_servers import Silent, serving
from tests.support.programs import listening
from tests.support.proxies import find, temporary_paths
from tests.support.server import PATIENCE, ROOT

FILES = {"nginx": "nginx-auth-request.conf", "caddy": "Caddyfile"}
ADMIN = "admin.sock"
"""Where Caddy is reloaded, in its folder."""


class App(Silent, BaseHTTPRequestHandler):
    """Answers with what reached it."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        reported = {
            "method": self.command,
            "body": self.rfile.read(length).decode(),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(reported).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - as http.server names them


@contextmanager
def app() -> Iterator[int]:
    """The app; returns its port."""
    with serving(App) as port:
        yield port


@contextmanager
def front(
    kind: str, port: int, usher_port: int, app_port: int, more: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """A proxy on the file of docs/proxies; returns the folder with that file and its `output.log`.

    Args:
        more: other changes of the file.
    """
    text = (ROOT / "docs" / "proxies" / FILES[kind]).read_text()
    folder = Path(tempfile.mkdtemp(prefix="usher-ask-"))
    changes = {
        "127.0.0.1:8888": f"127.0.0.1:{usher_port}",
        "127.0.0.1:9000": f"127.0.0.1:{app_port}",
    }
    file = folder / FILES[kind]
    if kind == "nginx":
        temporary = temporary_paths(folder)
        changes |= {
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "listen 8080;": f"listen 127.0.0.1:{port};",
            "    access_log off;\n": f"    access_log off;\n{temporary}",
        }
        command: list[Any] = [find("nginx"), "-e", folder / "nginx.log", "-p", folder, "-c", file]
        command += ["-g", "daemon off;"]
    else:
        changes |= {
            "http://:8080 {": f"http://:{port} {{\n\tbind 127.0.0.1",
            "admin localhost:2019": f"admin unix/{folder}/{ADMIN}",
        }
        command = [find("caddy"), "run", "--config", file, "--adapter", "caddyfile"]
    for old, new in (changes | dict(more or {})).items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    try:
        with listening(command, folder / "output.log", [port], own):
            yield folder
    finally:
        shutil.rmtree(folder)


class Front:
    """Where the proxy is, for clients that are made for an Usher."""

    def __init__(self, url: str) -> None:
        self.url = self.origin = url
        self.ws = f"ws{url[4:]}/ws"


def reload(folder: Path) -> None:
    """`caddy reload`, of a file in which nothing has changed."""
    command: list[Any] = [find("caddy"), "reload", "--force", "--config", folder / FILES["caddy"]]
    command += ["--adapter", "caddyfile", "--address", f"unix/{folder}/{ADMIN}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
