"""The libraries of docs/clients.md: where they come from, and how a program with each is run.

A probe is a program `PROBE URL TOKEN` that does what peer.py says. Sources are in probes/.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.join import GO_SOURCES, Program

PROBES = Path(__file__).parent / "probes"
INSTALL_SECONDS = 600
GO = {"GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": ""}
OKHTTP = "/usr/share/java/okhttp.jar:/usr/share/java/okio.jar"
BROWSER = ("{python}", "{source}")


@dataclass(frozen=True)
class Library(Program):
    """One library.

    Attributes:
        name: as its authors write it.
        package: of which the version is shown: `debian:NAME`, `pip:NAME==…` or `npm:NAME@…`.
        extra: further files of probes/ that the probe needs.
    """

    name: str = ""
    package: str = ""
    extra: Sequence[str] = ()

    @property
    def version(self) -> str:
        """Of the library that was run."""
        kind, _, name = self.package.partition(":")
        if kind != "debian":
            return name.replace("==", "@").rpartition("@")[2]
        version = said("dpkg-query", "-W", "-f", "${Version}", name)
        return version.partition(":")[2] or version  # without Debian's epoch

    def command(self, folder: Path, place: Place) -> list[str]:
        """Build it in this folder; returns how it is run."""
        # Not by its own name: a file websockets.py would be what `import websockets` finds.
        suffix = Path(self.source).suffix
        source = folder / ("Probe.java" if suffix == ".java" else f"probe{suffix}")
        shutil.copy(PROBES / f"{self.source}.in", source)
        for name in self.extra:
            shutil.copy(PROBES / f"{name}.in", folder / name)
        return self.built(folder, folder, source=str(source), **place.names)


@dataclass(frozen=True)
class Place:
    """A folder with an environment of Python's and one of npm's; libraries are run below it."""

    root: Path

    @property
    def names(self) -> dict[str, str]:
        modules = self.root / "node_modules"
        return {"python": str(self.root / "venv/bin/python"), "modules": str(modules)}

    def install(self, libraries: Sequence[Library]) -> None:
        """What comes from PyPI and npm. Debian's packages are installed by `make test-clients`."""
        said(sys.executable, "-m", "venv", str(self.root / "venv"))
        if pip := of_kind(libraries, "pip"):
            said(str(self.root / "venv/bin/pip"), "install", "--quiet", *pip)
        npm = of_kind(libraries, "npm")
        if npm and shutil.which("npm"):
            (self.root / "package.json").write_text('{"private": true, "type": "module"}')
            flags = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
            said("npm", "--prefix", str(self.root), "install", *flags, *npm)


def of_kind(libraries: Sequence[Library], kind: str) -> list[str]:
    """The packages that come from there."""
    pairs = [library.package.partition(":") for library in libraries]
    return sorted({name for found, _, name in pairs if found == kind})


def said(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def python(name: str, source: str, package: str) -> Library:
    return Library(
        language="Python",
        name=name,
        source=f"{source}.py",
        package=f"pip:{package}",
        packages="python3-venv",
        needs=(),
        run=("{python}", "{source}"),
    )


def node(name: str, source: str, package: str) -> Library:
    return Library(
        language="Node",
        name=name,
        source=f"{source}.mjs",
        package=f"npm:{package}",
        packages="nodejs npm",
        needs=("node", "npm"),
        run=("node", "{source}"),
    )


def go(name: str, source: str, package: str, folder: str) -> Library:
    return Library(
        language="Go",
        name=name,
        source=f"{source}.go",
        package=f"debian:{package}",
        packages=f"golang-go {package}",
        needs=("go", f"{GO_SOURCES}/src/{folder}"),
        build=("go", "build", "-o", "{folder}/probe", "{source}"),
        run=("{folder}/probe",),
        environment=GO,
    )


def script(
    language: str, name: str, source: str, package: str, *run: str, more: str = ""
) -> Library:
    """One that is interpreted, of Debian's."""
    return Library(
        language=language,
        name=name,
        source=source,
        package=f"debian:{package}",
        packages=f"{package} {more}".strip(),
        needs=(run[0], f"/usr/share/doc/{package}"),
        run=(*run, "{source}"),
    )


def compiled(
    language: str, name: str, source: str, package: str, *build: str, more: str = ""
) -> Library:
    """One that is compiled, of Debian's."""
    return Library(
        language=language,
        name=name,
        source=source,
        package=f"debian:{package}",
        packages=f"{package} {more}".strip(),
        needs=(build[0], f"/usr/share/doc/{package}"),
        build=build,
        run=("{folder}/probe",),
    )


def browser(name: str, package: str, *command: str) -> Library:
    return Library(
        language="browser",
        name=name,
        source="browser.py",
        extra=("browser.html",),
        package=f"debian:{package}",
        packages=package,
        needs=(command[0],),
        run=(*BROWSER, *command),
    )


CXX = ("g++", "-O1", "{source}", "-o", "{folder}/probe", "-pthread")
LIBRARIES = (
    browser(
        "Chromium",
        "chromium",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        "--user-data-dir=@FOLDER@",
    ),
    browser(
        "Firefox",
        "firefox-esr",
        "firefox-esr",
        "--headless",
        "--no-remote",
        "--profile",
        "@FOLDER@",
    ),
    python("websockets, asyncio", "websockets", "websockets==17.4"),
    python("websockets, threads", "websockets_sync", "websockets==17.4"),
    python("aiohttp", "aiohttp", "aiohttp==3.14.5"),
    python("websocket-client, create_connection", "websocket_client", "websocket-client==1.9.2"),
    python("websocket-client, WebSocketApp", "websocket_client_app", "websocket-client==1.9.2"),
    python("Tornado", "tornado", "tornado==6.6.1"),
    python("httpx-ws", "httpx_ws", "httpx-ws==0.9.0"),
    python("picows", "picows", "picows==2.3.1"),
    python("curl_cffi (libcurl)", "curl_cffi", "curl_cffi==0.17.0"),
    python("trio-websocket", "trio_websocket", "trio-websocket==0.12.2"),
    python("simple-websocket", "simple_websocket", "simple-websocket==1.1.0"),
    python("Autobahn, asyncio", "autobahn", "autobahn==26.10.2"),
    python("ws4py, threads", "ws4py", "ws4py==0.6.0"),
    node("undici (Node's own WebSocket)", "undici", "undici@7.30.2"),
    node("ws", "ws", "ws@8.23.0"),
    node("faye-websocket", "faye", "faye-websocket@0.11.4"),
    node("websocket", "websocket_node", "websocket@1.0.35"),
    Library(
        language="Deno",
        name="its own",
        source="node_builtin.mjs",
        package="npm:deno@2.9.6",
        packages="nodejs npm",
        needs=("npm",),
        run=("{modules}/@deno/linux-x64-glibc/deno", "run", "--allow-net", "{source}"),
    ),
    Library(
        language="Bun",
        name="its own",
        source="node_builtin.mjs",
        package="npm:bun@1.4.4",
        packages="nodejs npm",
        needs=("npm",),
        run=("{modules}/@oven/bun-linux-x64/bin/bun", "{source}"),
    ),
    go(
        "gorilla/websocket",
        "gorilla",
        "golang-github-gorilla-websocket-dev",
        "github.com/gorilla/websocket",
    ),
    go(
        "nhooyr.io/websocket (now coder/websocket)",
        "nhooyr",
        "golang-nhooyr-websocket-dev",
        "nhooyr.io/websocket",
    ),
    go(
        "golang.org/x/net/websocket",
        "xnet",
        "golang-golang-x-net-dev",
        "golang.org/x/net/websocket",
    ),
    Library(
        language="Java",
        name="java.net.http",
        source="jdk.java",
        package="debian:openjdk-17-jdk-headless",
        packages="openjdk-17-jdk-headless",
        needs=("javac", "/usr/share/doc/openjdk-17-jdk-headless"),
        build=("javac", "-d", "{folder}", "{source}"),
        run=("java", "-cp", "{folder}", "Probe"),
    ),
    Library(
        language="Java",
        name="OkHttp",
        source="okhttp.java",
        package="debian:libokhttp-java",
        packages="libokhttp-java openjdk-17-jdk-headless",
        needs=("javac", "/usr/share/java/okhttp.jar"),
        build=("javac", "-d", "{folder}", "-cp", OKHTTP, "{source}"),
        run=("java", "-cp", f"{{folder}}:{OKHTTP}", "Probe"),
    ),
    Library(
        language="C#",
        name="ClientWebSocket of Mono",
        source="clientwebsocket.cs",
        package="debian:mono-runtime",
        packages="mono-runtime mono-mcs",
        needs=("mcs", "mono"),
        build=("mcs", "-out:{folder}/probe.exe", "{source}"),
        run=("mono", "{folder}/probe.exe"),
    ),
    compiled(
        "C",
        "libwebsockets",
        "libwebsockets.c",
        "libwebsockets-dev",
        "gcc",
        "-O1",
        "{source}",
        "-o",
        "{folder}/probe",
        "-lwebsockets",
        more="gcc",
    ),
    compiled("C++", "Boost.Beast", "beast.cpp", "libboost1.74-dev", *CXX, more="g++"),
    compiled(
        "C++",
        "WebSocket++",
        "websocketpp.cpp",
        "libwebsocketpp-dev",
        *CXX,
        "-std=c++14",
        more="g++ libboost-dev",
    ),
    compiled(
        "C++", "POCO", "poco.cpp", "libpoco-dev", *CXX, "-lPocoNet", "-lPocoFoundation", more="g++"
    ),
    compiled(
        "C++",
        "Qt WebSockets 5",
        "qt.cpp",
        "libqt5websockets5-dev",
        "sh",
        "-c",
        "g++ -O1 -fPIC {source} -o {folder}/probe $(pkg-config --cflags --libs Qt5WebSockets)",
        more="g++ pkg-config",
    ),
    script("GLib (gjs)", "libsoup 3", "soup.js", "gir1.2-soup-3.0", "gjs", more="gjs"),
    script("Ruby", "faye-websocket", "faye.rb", "ruby-faye-websocket", "ruby", more="ruby"),
    script("Perl", "Mojolicious", "mojo.pl", "libmojolicious-perl", "perl", more="perl"),
    script(
        "Perl",
        "AnyEvent::WebSocket::Client",
        "anyevent.pl",
        "libanyevent-websocket-client-perl",
        "perl",
        more="perl",
    ),
    script("Lua", "lua-http", "http.lua", "lua-http", "lua5.1", more="lua5.1 lua-basexx"),
    script("Tcl", "tcllib", "tcllib.tcl", "tcllib", "tclsh", more="tcl"),
    compiled(
        "Haskell",
        "websockets",
        "websockets.hs",
        "libghc-websockets-dev",
        "ghc",
        "-O0",
        "-outputdir",
        "{folder}",
        "-o",
        "{folder}/probe",
        "{source}",
        more="ghc",
    ),
)
