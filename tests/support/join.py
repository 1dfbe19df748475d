"""How the programs of examples/native/join are built and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BUILD_SECONDS = 300
"""A compiler on a busy machine."""
GO_SOURCES = Path("/usr/share/gocode")
"""Where Debian's packages of Go's libraries are."""


@dataclass(frozen=True)
class Program:
    """One example.

    Attributes:
        source: its file.
        packages: Debian's, for `make test-clients`.
        needs: programs on PATH, and files, without which it is skipped.
        build: the command that makes it; `{source}` and `{folder}` are replaced.
        run: the command that runs it.
        environment: of `build`.
        ends_well: whether its exit status is what the program says.
    """

    language: str
    source: str
    packages: str
    needs: Sequence[str]
    run: Sequence[str]
    build: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ends_well: bool = True

    @property
    def lacking(self) -> str:
        """What is not on this machine, or an empty string."""
        for need in self.needs:
            if not (Path(need).exists() if need.startswith("/") else shutil.which(need)):
                return f"{need} is not here: make test-clients installs {self.packages}"
        return ""

    def built(self, sources: Path, folder: Path, **more: str) -> list[str]:
        """Make it in this folder; returns the command that runs it.

        Args:
            more: what else is replaced in the commands.
        """
        names = {"source": str(sources / self.source), "folder": str(folder), **more}
        if self.build:
            done = subprocess.run(
                [part.format(**names) for part in self.build],
                cwd=folder,
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        return [part.format(**names) for part in self.run]


PROGRAMS = (
    Program(
        language="go",
        source="join.go",
        packages="golang-go golang-github-gorilla-websocket-dev",
        needs=("go", f"{GO_SOURCES}/src/github.com/gorilla/websocket"),
        build=("go", "build", "-o", "{folder}/join", "{source}"),
        run=("{folder}/join",),
        environment={"GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": ""},
    ),
    Program(
        language="ruby",
        source="join.rb",
        packages="ruby ruby-faye-websocket",
        needs=("ruby", "/usr/lib/ruby/vendor_ruby/faye/websocket.rb"),
        run=("ruby", "{source}"),
    ),
    Program(
        language="perl",
        source="join.pl",
        packages="libmojolicious-perl",
        needs=("perl", "/usr/share/perl5/Mojolicious.pm"),
        run=("perl", "{source}"),
    ),
    Program(
        language="php",
        source="join.php",
        packages="php-cli",
        needs=("php",),
        run=("php", "{source}"),
    ),
    Program(
        language="java",
        source="Join.java",
        packages="default-jdk-headless libgoogle-gson-java",
        needs=("javac", "/usr/share/java/gson.jar"),
        build=("javac", "-d", "{folder}", "-cp", "/usr/share/java/gson.jar", "{source}"),
        run=("java", "-cp", "{folder}:/usr/share/java/gson.jar", "Join"),
    ),
    Program(
        language="csharp",
        source="Join.cs",
        packages="mono-mcs mono-runtime libmono-system-net-http4.0-cil"
        " libmono-system-web-extensions4.0-cil",
        needs=("mcs", "mono"),
        build=(
            "mcs",
            "-r:System.Net.Http",
            "-r:System.Web.Extensions",
            "-out:{folder}/Join.exe",
            "{source}",
        ),
        run=("mono", "{folder}/Join.exe"),
        ends_well=False,  # Mono 6.8 sometimes aborts while it ends its own threads
    ),
    Program(
        language="c",
        source="join.c",
        packages="gcc libwebsockets-dev libcurl4-openssl-dev libjson-c-dev",
        needs=(
            "gcc",
            "/usr/include/libwebsockets.h",
            "/usr/include/json-c/json.h",
            "curl-config",
        ),
        build=(
            *("gcc", "-Wall", "-Wextra", "-Werror", "{source}", "-o", "{folder}/join"),
            *("-lwebsockets", "-lcurl", "-ljson-c"),
        ),
        run=("{folder}/join",),
    ),
    Program(
        language="cpp",
        source="join.cpp",
        packages="g++ libboost-dev nlohmann-json3-dev",
        needs=(
            "g++",
            "/usr/include/boost/beast/websocket.hpp",
            "/usr/include/nlohmann/json.hpp",
        ),
        build=(
            "g++",
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "{source}",
            "-o",
            "{folder}/join",
            "-pthread",
        ),
        run=("{folder}/join",),
    ),
    Program(
        language="lua",
        source="join.lua",
        packages="lua5.1 lua-http lua-basexx lua-cjson",
        needs=("lua5.1", "/usr/share/lua/5.1/http/websocket.lua", "/usr/share/lua/5.1/basexx.lua"),
        run=("lua5.1", "{source}"),
    ),
    Program(
        language="haskell",
        source="Join.hs",
        packages="ghc libghc-websockets-dev libghc-aeson-dev libghc-http-conduit-dev",
        needs=(
            "ghc",
            "/usr/share/doc/libghc-websockets-dev",
            "/usr/share/doc/libghc-http-conduit-dev",
        ),
        build=(*("ghc", "-O0", "-outputdir", "{folder}", "-o", "{folder}/join", "{source}"),),
        run=("{folder}/join",),
    ),
    Program(
        language="tcl",
        source="join.tcl",
        packages="tcl tcllib",
        needs=("tclsh", "/usr/share/doc/tcllib"),
        run=("tclsh", "{source}"),
    ),
)
