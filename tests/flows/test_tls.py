"""TLS in the process: https and wss from one server, with renewable certificates."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from services.settings.self_signed import CERTIFICATE_FILE, KEY_FILE, make_certificate
from tests.support.raw import quiet_usher
from tests.support.redis import until
from tests.support.server import PATIENCE, ROOT, Usher, any_certificate, sign_up, usher, wait_until
from tests.support.tools import first_of


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key, as `make run-tls` makes them."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder / CERTIFICATE_FILE, folder / KEY_FILE


@pytest.fixture(scope="module")
def server(pair: tuple[Path, Path]) -> Iterator[Usher]:
    certificate, key = pair
    with quiet_usher("sqlite", TLS_CERTIFICATE=certificate, TLS_KEY=key) as server:
        yield server


def trusting(certificate: Path) -> ssl.SSLContext:
    """A client that trusts this certificate, and looks at the name in it."""
    return ssl.create_default_context(cafile=str(certificate))


def serial_of(server: Usher) -> int:
    """The serial number of the certificate that a new connection is shown."""
    with (
        closing(socket.create_connection(("127.0.0.1", server.port), PATIENCE)) as plain,
        any_certificate().wrap_socket(plain) as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    from_der = ssl.DER_cert_to_PEM_cert(shown)
    return hash(from_der)


async def joined(server: Usher, token: str, tls: ssl.SSLContext) -> websockets.ClientConnection:
    client = await websockets.connect(
        server.ws, additional_headers={"Authorization": f"Bearer {token}"}, ssl=tls, proxy=None
    )
    assert json.loads(await asyncio.wait_for(client.recv(), PATIENCE))["event"] == "joined"
    return client


def test_what_is_announced_is_https_and_the_key_is_closed_to_others(
    server: Usher, pair: tuple[Path, Path]
) -> None:
    assert server.url.startswith("https://127.0.0.1:")
    assert f"wss://localhost:{server.port}/ws" in server.log
    assert stat.S_IMODE(pair[1].stat().st_mode) == 0o600


def test_cookies_are_secure_and_responses_have_hsts(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    assert "__Host-access_token" in browser.cookies
    answer = browser.get("/api/auth/me")
    assert answer.status == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.gen_test
async def test_a_socket_is_closed_by_a_logout_as_without_tls(
    server: Usher, pair: tuple[Path, Path]
) -> None:
    ada = await asyncio.to_thread(sign_up, server)
    assert ada.token is not None
    async with await joined(server, ada.token, trusting(pair[0])) as client:
        await asyncio.to_thread(ada.post, "/api/auth/logout")
        reported = json.loads(await asyncio.wait_for(client.recv(), PATIENCE))
        assert (reported["event"], reported["data"]["code"]) == ("closing", 4410)
        await asyncio.wait_for(client.wait_closed(), PATIENCE)
        assert client.close_code == 4410


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(server: Usher, version: ssl.TLSVersion) -> None:
    assert handshake_with(server, version) is not None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_an_older_version_is_refused(server: Usher) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake_with(server, ssl.TLSVersion.TLSv1_1)


def handshake_with(server: Usher, version: ssl.TLSVersion) -> str | None:
    context = any_certificate()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        closing(socket.create_connection(("127.0.0.1", server.port), PATIENCE)) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.version()


@pytest.mark.slow
def test_a_handshake_that_stands_still_ends_in_time(server: Usher) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as silent:
        silent.settimeout(PATIENCE)
        started = time.monotonic()
        assert silent.recv(1) == b"", "it says nothing, and closes"
        assert time.monotonic() - started > 2, "an honest client on a slow line has time"


def client_hello() -> bytes:
    """The first message of a client that does not check certificates."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        any_certificate().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_a_handshake_may_come_a_byte_at_a_time(server: Usher) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = any_certificate().wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    line.send(bytes((byte,)))
                incoming.write(line.recv(65536))
    assert tls.version() == "TLSv1.3"


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True], ids=["silent", "half a client hello"])
def test_half_open_handshakes_of_one_address_keep_no_other_out_and_end(
    pair: tuple[Path, Path], begun: bool
) -> None:
    half = client_hello()[:40] if begun else b""
    limits = {"MAX_UNJOINED_PER_ADDRESS": 100}
    with (
        quiet_usher("sqlite", TLS_CERTIFICATE=pair[0], TLS_KEY=pair[1], **limits) as server,
        ExitStack() as stack,
    ):
        ada = sign_up(server)
        lines = []
        for _ in range(200):
            line = socket.create_connection(
                ("127.0.0.1", server.port), PATIENCE, source_address=("127.0.0.2", 0)
            )
            lines.append(stack.enter_context(line))
            with suppress(ConnectionError):  # more than the address may have
                line.sendall(half)
        started = time.monotonic()
        assert ada.get("/api/auth/me").status == 200, "another address is served meanwhile"
        ended = [reads_the_end(line) for line in lines]
        assert ended == [True] * 200
        assert 2 < time.monotonic() - started < PATIENCE
        with (
            closing(
                socket.create_connection(
                    ("127.0.0.1", server.port), PATIENCE, source_address=("127.0.0.2", 0)
                )
            ) as plain,
            any_certificate().wrap_socket(plain) as tls,
        ):
            assert tls.version() == "TLSv1.3", "and so is the first one, afterwards"


def reads_the_end(line: socket.socket) -> bool:
    try:
        return line.recv(1) == b""
    except ConnectionError:
        return True


def test_plain_http_on_the_port_is_closed_and_affects_no_other(server: Usher) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionError):
            assert not plain.recv(100).startswith(b"HTTP/1.1 2")
    assert sign_up(server).get("/api/auth/me").status == 200


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_a_renewed_certificate_is_read_at_sighup_and_no_socket_drops(
    tmp_path: Path, processes: int
) -> None:
    make_certificate(tmp_path)
    certificate, key = tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE
    tls = {"TLS_CERTIFICATE": certificate, "TLS_KEY": key}
    with quiet_usher("sqlite", PROCESSES=processes, **tls) as server:
        ada = await asyncio.to_thread(sign_up, server)
        assert ada.token is not None
        before = serial_of(server)
        async with await joined(server, ada.token, trusting(certificate)) as client:
            certificate.unlink()
            key.unlink()
            make_certificate(tmp_path)
            server.process.send_signal(signal.SIGHUP)
            # Ten new connections, so that each process is asked.
            await until(lambda: before not in {serial_of(server) for _ in range(10)})
            await client.send('{"event":"heartbeat","id":1}')
            assert json.loads(await asyncio.wait_for(client.recv(), PATIENCE))["ok"] is True


RSA_ONLY = "ECDHE-RSA-AES128-GCM-SHA256"


def rsa_handshake(server: Usher) -> str | None:
    """A handshake of a client that knows RSA certificates only; the version that it got."""
    context = any_certificate()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(RSA_ONLY)
    with (
        closing(socket.create_connection(("127.0.0.1", server.port), PATIENCE)) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.version()


def write_rsa_pair(certificate: Path, key: Path) -> None:
    """What a CA gave before the renewal."""
    made = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the old one")])
    now = dt.datetime.now(dt.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(made, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(pem(made, None))


def test_after_a_renewal_with_another_type_of_key_the_old_certificate_is_not_used(
    tmp_path: Path,
) -> None:
    # As when certbot went from RSA to ECDSA: OpenSSL keeps a certificate for each type of key.
    certificate, key = tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE
    write_rsa_pair(certificate, key)
    with quiet_usher("sqlite", TLS_CERTIFICATE=certificate, TLS_KEY=key) as server:
        before = serial_of(server)
        assert rsa_handshake(server) == "TLSv1.2"
        certificate.unlink()
        key.unlink()
        make_certificate(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: serial_of(server) != before)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            rsa_handshake(server)


def test_handshakes_amid_renewals_get_one_pair_or_the_other(tmp_path: Path) -> None:
    pairs = []
    for name in ("one", "two"):
        make_certificate(tmp_path / name)
        pairs.append([(tmp_path / name / file) for file in (CERTIFICATE_FILE, KEY_FILE)])
    certificate, key = tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE
    link(pairs[0], certificate, key)
    with quiet_usher("sqlite", TLS_CERTIFICATE=certificate, TLS_KEY=key) as server:
        seen, stop = set[int](), threading.Event()

        def shake_hands() -> None:
            while not stop.is_set():
                seen.add(serial_of(server))  # raises where certificate and key do not fit

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(shake_hands) for _ in range(2)]
            for number in range(1, 21):
                before = serial_of(server)
                link(pairs[number % 2], certificate, key)
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda before=before: serial_of(server) != before)
            stop.set()
            for one in running:
                one.result(PATIENCE)
        assert len(seen) == 2


def link(pair: Sequence[Path], certificate: Path, key: Path) -> None:
    """Let both names stand for the files of a pair, as certbot does."""
    for name, target in zip((certificate, key), pair, strict=True):
        name.unlink(missing_ok=True)
        name.symlink_to(target)


def test_an_invalid_pair_at_sighup_is_logged_and_the_old_one_stays(
    tmp_path: Path,
) -> None:
    make_certificate(tmp_path)
    certificate, key = tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE
    with usher("sqlite", TLS_CERTIFICATE=certificate, TLS_KEY=key) as server:
        before = serial_of(server)
        certificate.write_text("no certificate")
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while "the certificate is not read anew" not in server.log:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert serial_of(server) == before


def other_key(folder: Path) -> Path:
    path = folder / "other.pem"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), None))
    return path


def locked_key(folder: Path) -> Path:
    path = folder / "locked.pem"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"a password"))
    return path


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password),
    )


@pytest.mark.parametrize(
    "wrong", first_of(("other key", "locked key", "no key", "not there", "no pair"), 2)
)
def test_an_invalid_certificate_or_key_is_one_line_and_status_2(
    tmp_path: Path, pair: tuple[Path, Path], wrong: str
) -> None:
    certificate, key = pair
    junk = tmp_path / "junk.pem"
    junk.write_text("-----BEGIN NOTHING-----\n")
    given = {
        "other key": (certificate, other_key(tmp_path)),
        "locked key": (certificate, locked_key(tmp_path)),
        "no key": (certificate, junk),
        "not there": (tmp_path / "gone.pem", key),
        "no pair": (certificate, ""),
    }[wrong]
    settings = {"USHER_TLS_CERTIFICATE": str(given[0]), "USHER_TLS_KEY": str(given[1])}
    ended = subprocess.run(
        [sys.executable, "server.py"],
        cwd=ROOT,
        env={"PATH": "", "USHER_PORT": "0", "USHER_DATA_DIR": str(tmp_path / "data"), **settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("usher: USHER_TLS_")
    assert ": got " in line
    assert ", takes " in line


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is an address of its own there")
def test_a_crowd_of_tls_handshakes_is_not_before_one_of_another_address(server: Usher) -> None:
    with ExitStack() as stack:

        def connect(address: str) -> socket.socket:
            sock = socket.create_connection(
                ("127.0.0.1", server.port), PATIENCE, source_address=(address, 0)
            )
            return stack.enter_context(sock)

        server.process.send_signal(signal.SIGSTOP)
        stack.callback(server.process.send_signal, signal.SIGCONT)
        crowd = [connect("127.0.0.1") for _ in range(400)]
        for sock in crowd:
            sock.sendall(client_hello())
        plain = connect("127.0.0.2")
        server.process.send_signal(signal.SIGCONT)
        with any_certificate().wrap_socket(plain) as good:
            good.sendall(b"GET /healthz HTTP/1.1\r\nHost: usher.test\r\n\r\n")
            assert good.recv(4096).startswith(b"HTTP/1.1 200 ")
            server.process.send_signal(signal.SIGSTOP)  # and nobody else is answered
            poll = select.poll()
            for sock in crowd:
                poll.register(sock, select.POLLIN)
            assert len(poll.poll(0)) < 0.8 * len(crowd)
