"""Starts the board: Usher, the backend, the worker and the page, and prints every address.

    python examples/board/run.py

Stop with Ctrl+C. What it keeps is in examples/board/data. Nothing has to be installed: where the
packages are missing it makes an environment of its own, examples/board/.venv, and takes that.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import venv
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from examples.processes import stop, wait_for, watch  # noqa: E402 - found by the line above

NEEDED = ("tornado", "peewee", "msgspec", "fastapi", "uvicorn", "httpx", "websockets", "jwt")


def main() -> int:
    """Start everything, and wait until it is stopped or a part of it ends."""
    chosen = arguments()
    usher, page, backend = (f"http://localhost:{port}" for port in chosen.ports)
    if chosen.another_site:
        page = f"http://127.0.0.1:{chosen.ports[1]}"
    with ExitStack() as stack:
        parts: dict[str, subprocess.Popen[bytes]] = {}

        def start(name: str, *command: str, **variables: str) -> None:
            environment = os.environ | variables
            parts[name] = process = subprocess.Popen(command, cwd=ROOT, env=environment)
            stack.callback(stop, process)

        settings = {
            "USHER_PORT": str(chosen.ports[0]),
            "USHER_PUBLIC_URL": usher,
            "USHER_ALLOWED_ORIGINS": page,
            "USHER_APP_AUDIENCES": "board",
            "USHER_APP_NAME": "Board",
            "USHER_DATA_DIR": str(chosen.data_dir),
        }
        start("Usher", sys.executable, "server.py", **settings)
        wait_for(f"{usher}/readyz", parts, "board")
        key, room = key_and_room(chosen.data_dir, usher, settings)
        known = {
            "PYTHONPATH": str(ROOT / "clients" / "python" / "src"),
            "USHER_URL": usher,
            "USHER_API_KEY": key,
            "BOARD_PAGE": page,
            "BOARD_BACKEND": backend,
            "BOARD_ROOM": room,
        }
        uvicorn = ("-m", "uvicorn", "--app-dir", str(HERE), "--log-level", "warning")
        port = str(chosen.ports[2])
        start("backend", sys.executable, *uvicorn, "--port", port, "backend:app", **known)
        wait_for(f"{backend}/posts", parts, "board")
        start("worker", sys.executable, str(HERE / "worker.py"), **known)
        config = {"usher": usher, "backend": backend, "room": room}
        stack.enter_context(serve_page(chosen.ports[1], config))
        print(f"\n  Page     {page}\n  Backend  {backend}\n  Usher    {usher}", flush=True)
        print("\n  Open the page. Stop with Ctrl+C.\n", flush=True)
        return watch(parts, "board")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start the board.")
    parser.add_argument(
        "--ports",
        type=int,
        nargs=3,
        default=[8888, 8001, 8002],
        metavar=("USHER", "PAGE", "BACKEND"),
    )
    parser.add_argument(
        "--another-site", action="store_true", help="the page at 127.0.0.1, Usher at localhost"
    )
    parser.add_argument("--data-dir", type=Path, default=HERE / "data")
    return parser.parse_args()


def key_and_room(folder: Path, usher: str, settings: dict[str, str]) -> tuple[str, str]:
    """The backend's key, and the room where everybody hears of posts: made at the first start."""
    kept = folder / "board.json"
    if not kept.exists():
        command = [sys.executable, "server.py", "create-api-key", "board", "--json"]
        for scope in ("introspect", "publish", "channels"):
            command += ["--scope", scope]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | settings, stdout=subprocess.PIPE, check=True
        )
        key = json.loads(done.stdout)["key"]
        # Every user may read in it, and nobody but a backend writes.
        channel = call("POST", f"{usher}/api/channels", key, {"name": "board"})["id"]
        roles = {"roles": {"user": "read", "admin": "read"}}
        call("PATCH", f"{usher}/api/channels/{channel}", key, roles)
        kept.touch(mode=0o600)
        kept.write_text(json.dumps({"key": key, "room": f"channel:{channel}"}))
    found = json.loads(kept.read_text())
    return found["key"], found["room"]


def call(method: str, url: str, key: str, body: dict[str, Any]) -> Any:
    """A call by API key; gives the JSON of its answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), method=method)
    request.add_header("Authorization", f"Bearer {key}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


class Page(SimpleHTTPRequestHandler):
    """The files of page/, and where everything is."""

    config: bytes = b"{}"

    def do_GET(self) -> None:
        if self.path != "/config.json":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.config)))
        self.end_headers()
        self.wfile.write(self.config)

    def log_message(self, *_: Any) -> None:
        """Silence."""


def serve_page(port: int, config: dict[str, str]) -> ExitStack:
    """Serve the page until the stack ends."""
    handler = type("Configured", (Page,), {"config": json.dumps(config).encode()})
    made = functools.partial(handler, directory=str(HERE / "page"))
    server = ThreadingHTTPServer(("127.0.0.1", port), made)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stack = ExitStack()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return stack


def in_own_environment() -> None:
    """Go on in an environment that has the packages, if this one has not."""
    if all(importlib.util.find_spec(name) for name in NEEDED):
        return
    folder = HERE / ".venv"
    python = folder / "bin" / "python"
    if Path(sys.prefix) == folder:
        sys.exit(f"board: packages are missing in {folder}: delete it, and start again")
    print(f"board: installing into {folder}, once; about a minute", flush=True)
    venv.create(folder, with_pip=True)
    wanted = ("-r", "requirements.txt", "-r", "examples/board/requirements.txt")
    own = "./clients/python[backend]"
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    subprocess.run([*pip, "-c", "constraints.txt", *wanted, own], cwd=ROOT, check=True)
    os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    in_own_environment()
    sys.exit(main())
