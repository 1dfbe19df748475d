"""Usher: who may open a WebSocket, who is on it, and how fast it is closed when access is revoked.

Start order: settings, services, handlers, listen. `python server.py --help` lists the settings and
the commands, which work beside a running server: `python server.py list-users`.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tornado.netutil import bind_sockets

from handlers.base import Site
from handlers.cookies import CookieJar
from handlers.http.oauth import load_pages
from handlers.http_server import UsherServer
from handlers.request_router import RequestRouter
from handlers.routes import make_application
from handlers.tls import Tls
from handlers.websocket.context import SocketContext
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from handlers.websocket.upgrade import MAX_BODY_BYTES, UpgradeHandler
from services.composition import container
from services.composition import lifecycle as running
from services.composition.container import Services
from services.composition.infrastructure import Infrastructure, open_infrastructure
from services.composition.operating import operate
from services.composition.reload import Reloader
from services.errors import SettingError, UsherError
from services.event_loop.rotation import UnderWay
from services.logs import LogHandler, Writer, set_up_logging
from services.secret_values import secret_values
from services.settings import command_line, settings
from services.settings.branding import Branding
from services.settings.origins import Origins, http_origin
from services.settings.proxies import Proxies
from services.settings.settings import Settings
from services.websocket.connection import CLOSE_HANDSHAKE_SECONDS
from services.websocket.listener import Listener

try:
    from uvloop import run as run_loop
except ImportError:  # no wheel for this platform: asyncio's own loop does the same, slower
    from asyncio import run as run_loop  # type: ignore[assignment]  # the same, with fewer options

BACKLOG = 1024
MAX_HEADER_BYTES = 16 * 1024
IDLE_CONNECTION_SECONDS = 75.0
BODY_SECONDS = 20.0
REPORT_SECONDS = 5.0
LOOK_SECONDS = 5.0
YOUNG_OBJECTS = 10_000
"""New objects until the collector looks for circles among them. A few joins make the usual 700, and
leave no circle."""

log = logging.getLogger("usher")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped, or one command. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    doing = "start"
    try:
        call = command_line.parse(arguments)
        doing = call.command.name if call is not None else doing
        chosen = settings.load(os.environ, arguments if call is None else call.settings)
        with _logging(chosen) as handler:
            if call is not None:
                logging.getLogger().setLevel(logging.WARNING)
                run_loop(operate(call, chosen))
                return 0

            def reread() -> Settings:
                found = settings.load(os.environ, arguments)
                handler.hide(secret_values(found))
                return found

            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it must not end a start either
            run_loop(serve(chosen, reread, handler))
    except SettingError as error:
        settings.exit_with(error)
    except UsherError as error:
        sys.stderr.write(f"usher: cannot {doing}: {error.evidence or error.title}\n")
        return 1
    return 0


async def serve(chosen: Settings, reread: Callable[[], Settings], log_handler: LogHandler) -> None:
    """Start, serve, and stop at SIGTERM or SIGINT.

    Args:
        reread: the settings as they are at SIGHUP.
        log_handler: of all loggers.

    Raises:
        SettingError: a setting cannot be used.
        Unavailable: the database or the embedded Redis can't be started.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    rereading = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, rereading.set)
    _allow_many_sockets()
    listeners = _bind(chosen)
    port = listeners[0].getsockname()[1]
    bound = [listener.getsockname()[0] for listener in listeners]
    tls = _tls(chosen)
    scheme = "http" if tls is None else "https"
    origins = Origins(chosen.public_url, chosen.host, port, chosen.allowed_origins, bound, scheme)
    pages = origins.opened(providers=bool(chosen.oauth_providers))
    infrastructure = await open_infrastructure(chosen)
    if infrastructure.lock is not None:
        infrastructure.lock.record_public_url(pages)
    services = container.build(infrastructure, origins.public_url, pages, log_handler.writer.write)
    try:
        await running.start(services)
        services.background.every(
            REPORT_SECONDS, "report repeated log lines", log_handler.report_repeated
        )
        server, context = _open(services, origins, listeners, tls)
        services.background.every(LOOK_SECONDS, "close unread answers", server.close_unread)
        for warning in chosen.warnings:
            log.warning("%s", warning)
        anybody = await services.administration.is_anybody_there()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        sys.stdout.write(_welcome(infrastructure, origins, port, anybody))
        sys.stdout.flush()
        reloader = Reloader(services, reread, None if tls is None else lambda: server.renew(tls))
        reloading = asyncio.ensure_future(_reload(reloader, rereading))
        await stopping.wait()
        reloading.cancel()
        await _drain(server, context)
    finally:
        await running.stop(services)


def _tls(chosen: Settings) -> Tls | None:
    if chosen.tls_certificate is None or chosen.tls_key is None:
        return None
    return Tls(chosen.tls_certificate, chosen.tls_key)


def _bind(chosen: Settings) -> Sequence[socket.socket]:
    try:
        return [Listener(s) for s in bind_sockets(chosen.port, chosen.host, backlog=BACKLOG)]
    except OSError as error:
        why = error.strerror or str(error)
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            got, takes = f"{chosen.host} ({why})", "an address or a name of this machine"
            raise SettingError("USHER_HOST", got, takes) from error
        raise SettingError(
            "USHER_PORT", f"{chosen.port} on {chosen.host} ({why})", "a free port, or 0 for any"
        ) from error


def _open(
    services: Services, origins: Origins, listeners: Sequence[socket.socket], tls: Tls | None
) -> tuple[UsherServer, SocketContext]:
    chosen = services.infrastructure.settings
    cookies = CookieJar(origins.secure, chosen.cookie_name_prefix)
    proxies = Proxies(chosen.trusted_proxies)
    context = SocketContext(services, {**EVENTS, **ROOM_EVENTS}, proxies=proxies)
    branding = Branding(chosen.app_name, chosen.app_logo, chosen.app_accent)
    site = Site(services, origins, proxies, cookies, load_pages(), branding)
    upgrades = UpgradeHandler(context, origins, cookies, proxies)
    application = make_application(site, {"context": context, "upgrades": upgrades})
    direct = None if chosen.through_tornado else upgrades
    server = UsherServer(
        RequestRouter(application, direct, context.unjoined, UnderWay()),
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        idle_connection_timeout=IDLE_CONNECTION_SECONDS,
        body_timeout=BODY_SECONDS,
        ssl_options=tls.context if tls is not None else None,
    )
    server.add_sockets(listeners)
    return server, context


async def _drain(server: UsherServer, context: SocketContext) -> None:
    """Stop accepting connections, finish pending requests, and close the sockets (1012)."""
    log.info("stopping: %d sockets are closed and will reconnect", len(context.hub))
    context.draining = True
    seconds = context.services.infrastructure.settings.drain_seconds
    closed, _ = await asyncio.gather(context.close_spread(seconds), server.drain(seconds))
    if closed:
        await asyncio.sleep(CLOSE_HANDSHAKE_SECONDS)


async def _reload(reloader: Reloader, rereading: asyncio.Event) -> None:
    while True:
        await rereading.wait()
        rereading.clear()
        await reloader.reload()


def _allow_many_sockets() -> None:
    """Use the file descriptors that the system allows; the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        log.info("the limit of open files stays: %s", error)


@contextmanager
def _logging(chosen: Settings) -> Iterator[LogHandler]:
    handler = LogHandler(Writer(sys.stderr), chosen.log_format, secret_values(chosen))
    set_up_logging(handler)
    try:
        yield handler
    except UsherError:
        raise
    except Exception:  # whatever ends the process is said by the handler that hides secrets
        log.critical("stopped by an error", exc_info=True)
        raise SystemExit(1) from None
    finally:
        handler.close()


def _welcome(infrastructure: Infrastructure, origins: Origins, port: int, anybody: bool) -> str:
    chosen = infrastructure.settings
    if infrastructure.redis is not None:
        redis = "embedded, in the data folder"
    elif infrastructure.store.kind == "memory":
        redis = "none found: in this process only (see the warning above)"
    else:
        redis = "USHER_REDIS_URL"
    if not infrastructure.store.available:
        redis += ", not answering yet: the database is used instead"
    database = "PostgreSQL" if infrastructure.database.kind == "postgresql" else "SQLite"
    if database == "SQLite":
        own = settings.embedded_database(chosen.data_dir) == chosen.database_url
        database += ", in the data folder" if own else ", in the file of USHER_DATABASE_URL"
    opened = origins.opened(providers=bool(chosen.oauth_providers))
    lines = [
        f"  Usher {settings.VERSION} is ready",
        "",
        f"  Open      {opened}",
        f"  Socket    {'ws' + opened[4:]}/ws",
        f"  Data      {chosen.data_dir.resolve()}",
        f"  Database  {database}",
        f"  Redis     {redis}",
    ]
    if chosen.smtp_url is None:
        lines.append(f"  Mail      no SMTP_URL: as files in {chosen.data_dir.resolve() / 'mail'}")
    listens = http_origin(chosen.host, port, "http" if chosen.tls_certificate is None else "https")
    if listens != opened:
        lines.insert(4, f"  Listens   {listens}")
    if not anybody:
        lines.append("  Accounts  none yet: the first to sign up becomes the administrator")
    return "\n".join(("", *lines, "", "  Stop with Ctrl+C.", ""))


if __name__ == "__main__":
    sys.exit(main())
