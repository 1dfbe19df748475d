"""Starts Usher, an app that knows nothing of it, and nginx or Caddy in front of both.

    python examples/proxy/run.py            # Caddy
    python examples/proxy/run.py nginx

Needs the program `caddy` or `nginx`, and what Usher needs (`make .venv/.runtime`). The proxy runs
docs/proxies/Caddyfile or nginx-auth-request.conf with other ports and folders. Stop with Ctrl+C.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from examples.processes import stop, wait_for, watch  # noqa: E402 - found by the line above


def main() -> int:
    """Start everything, and wait until it is stopped or a part of it ends."""
    chosen = arguments()
    front, usher, app = chosen.ports
    origin = f"http://localhost:{front}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usher-proxy-")))
        settings = {
            "USHER_PORT": str(usher),
            "USHER_PUBLIC_URL": origin,
            "USHER_TRUSTED_PROXIES": "127.0.0.1",
            "USHER_DATA_DIR": str(chosen.data_dir),
        }
        commands = {
            "Usher": [sys.executable, "server.py"],
            "app": [sys.executable, str(HERE / "app.py"), str(app)],
            chosen.proxy: proxy_command(chosen.proxy, folder, chosen.ports),
        }
        parts: dict[str, subprocess.Popen[bytes]] = {}
        for name, command in commands.items():
            if name == chosen.proxy:  # last, or nginx logs an error for each question too early
                wait_for(f"http://127.0.0.1:{usher}/healthz", parts, "proxy")
            own = settings if name == "Usher" else {"XDG_DATA_HOME": str(folder)}
            parts[name] = subprocess.Popen(command, cwd=ROOT, env=os.environ | own)
            stack.callback(stop, parts[name])
        wait_for(f"{origin}/healthz", parts, "proxy")
        print(f"\n  App      {origin}/app/\n  Sign in  {origin}/sign-in?next=/app/", flush=True)
        print("\n  Sign in, then open the app. Stop with Ctrl+C.\n", flush=True)
        return watch(parts, "proxy")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start an app behind a proxy that asks Usher.")
    parser.add_argument("proxy", choices=("caddy", "nginx"), nargs="?", default="caddy")
    parser.add_argument(
        "--ports", type=int, nargs=3, default=[8080, 8888, 9000], metavar=("FRONT", "USHER", "APP")
    )
    parser.add_argument("--data-dir", type=Path, default=HERE / "data")
    return parser.parse_args()


def proxy_command(kind: str, folder: Path, ports: list[int]) -> list[str]:
    """The proxy on the file of docs/proxies, with this machine's ports and folders."""
    front, usher, app = ports
    program = find(kind)
    changes = {"127.0.0.1:8888": f"127.0.0.1:{usher}", "127.0.0.1:9000": f"127.0.0.1:{app}"}
    if kind == "caddy":
        changes["admin localhost:2019"] = "admin off"
        changes["http://:8080 {"] = f"http://localhost:{front} {{\n\tbind 127.0.0.1"
        file = write(folder, "Caddyfile", changes)
        return [program, "run", "--config", str(file), "--adapter", "caddyfile"]
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in places)
    changes |= {
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "listen 8080;": f"listen 127.0.0.1:{front};",
        "    access_log off;\n": f"    access_log off;\n{temporary}",
    }
    file = write(folder, "nginx-auth-request.conf", changes)
    logged = ["-e", "stderr", "-g", "daemon off;"]
    return [program, "-p", str(folder), "-c", str(file), *logged]


def write(folder: Path, name: str, changes: dict[str, str]) -> Path:
    text = (ROOT / "docs" / "proxies" / name).read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    file = folder / name
    file.write_text(text)
    return file


def find(program: str) -> str:
    """Where a program is: in this environment, on PATH, or where Debian has it."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        sys.exit(f"proxy: there is no {program} here: apt-get install {program}")
    return found


if __name__ == "__main__":
    sys.exit(main())
