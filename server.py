"""Usher: who may open a WebSocket, who is on it, and how fast it is closed when access is revoked.

Start order: settings, services, handlers, listen. `python server.py --help` lists the settings and
the commands, which work beside a running server: `python server.py list-users`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from handlers.base import Site
from handlers.cookies import CookieJar
from handlers.direct.direct_tickets import DirectTickets
from handlers.http.oauth import load_pages
from handlers.http_server import UsherServer
from handlers.page_files import PageFiles
from handlers.request_router import RequestRouter
from handlers.routes import STATIC, make_application
from handlers.tls import Tls
from handlers.websocket.context import SocketContext
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from handlers.websocket.upgrade import MAX_BODY_BYTES, UpgradeHandler
from services.composition import container, supervising
from services.composition import lifecycle as running
from services.composition.container import Services
from services.composition.heap import use_one_arena
from services.composition.infrastructure import (
    close_connections,
    open_infrastructure,
    release_embedded,
)
from services.composition.operating import operate
from services.composition.reload import Reloader
from services.composition.supervising import check_shared
from services.composition.welcome import welcome
from services.errors import SettingError, UsherError
from services.event_loop.background import Background
from services.event_loop.rotation import UnderWay
from services.logs import LogHandler, Writer, set_up_logging
from services.processes.exposition import families
from services.processes.listeners import bind
from services.processes.supervisor import WorkerFailed
from services.processes.worker import Worker, take_worker
from services.secret_values import secret_values
from services.settings import command_line, settings
from services.settings.branding import Branding
from services.settings.origins import Origins
from services.settings.proxies import Proxies
from services.settings.settings import Settings
from services.websocket.connection import CLOSE_HANDSHAKE_SECONDS
from services.websocket.listener import Listener

try:
    from uvloop import run as run_loop
except ImportError:  # no wheel for this platform: asyncio's own loop does the same, slower
    from asyncio import run as run_loop  # type: ignore[assignment]  # the same, with fewer options

MAX_HEADER_BYTES = 16 * 1024
IDLE_CONNECTION_SECONDS = 75.0
BODY_SECONDS = 20.0
PROGRAM = str(Path(__file__).resolve())
REPORT_SECONDS = 5.0
LOOK_SECONDS = 5.0
YOUNG_OBJECTS = 10_000
"""New objects until the collector looks for circles among them. A few joins make the usual 700, and
leave no circle."""

log = logging.getLogger("usher")


def main(argv: Sequence[str] | None = None, program: str = command_line.PROGRAM) -> int:
    """Run the server until it is stopped, or one command. Returns the exit status.

    Args:
        program: the name by which it was started, for --help.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    worker: Worker | None = None
    doing = "start"
    try:
        worker = take_worker(arguments)
        call = command_line.parse(arguments, program) if worker is None else None
        doing = call.command.name if call is not None else doing
        chosen = settings.load(os.environ, arguments if call is None else call.settings, program)
        with _logging(chosen, worker) as handler:
            if call is not None:
                logging.getLogger().setLevel(logging.WARNING)
                run_loop(operate(call, chosen))
                return 0

            def reread() -> Settings:
                found = settings.load(os.environ, arguments)
                handler.hide(secret_values(found))
                return found

            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it must not end a start either
            if chosen.processes > 1 and worker is None:
                run_loop(supervise(chosen, arguments, handler))
            else:
                use_one_arena(os.environ)
                run_loop(serve(chosen, reread, handler, worker))
    except WorkerFailed as error:
        sys.stderr.write(f"{error.line}\n")
        return error.status
    except UsherError as error:
        return _exit_status(error, doing, worker)
    return 0


def _exit_status(error: UsherError, doing: str, worker: Worker | None) -> int:
    """Say why this process ends: a worker says it to its supervisor."""
    if isinstance(error, SettingError):
        line, status = settings.error_line(error), settings.EXIT_STATUS
    else:
        line, status = f"usher: cannot {doing}: {error.evidence or error.title}", 1
    if worker is not None:
        worker.fail(line, status)
    elif isinstance(error, SettingError):
        settings.exit_with(error)
    else:
        sys.stderr.write(f"{line}\n")
    return status


async def serve(
    chosen: Settings,
    reread: Callable[[], Settings],
    log_handler: LogHandler,
    worker: Worker | None = None,
) -> None:
    """Start, serve, and stop at SIGTERM or SIGINT.

    Args:
        reread: the settings as they are at SIGHUP.
        log_handler: of all loggers.
        worker: if this is one of several processes. The supervisor has bound the port.

    Raises:
        SettingError: a setting cannot be used.
        Unavailable: the database or the embedded Redis can't be started.
    """
    stopping, rereading = _on_signals()
    _allow_many_sockets()
    bound = worker.listeners if worker is not None else bind(chosen.host, chosen.port)[0]
    listeners = [Listener(each) for each in bound]
    port = listeners[0].getsockname()[1]
    tls = _tls(chosen)
    origins = _origins(chosen, listeners)
    pages = origins.opened(providers=bool(chosen.oauth_providers))
    infrastructure = await open_infrastructure(chosen, worker)
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
        anybody = await services.administration.is_anybody_there()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        reloader = Reloader(services, reread, None if tls is None else lambda: server.renew(tls))
        if worker is None:
            _warn(chosen)
            available = infrastructure.store.available
            sys.stdout.write(welcome(infrastructure, origins, port, anybody, available))
            sys.stdout.flush()
        else:
            exposed = partial(families, services.metrics.registry)
            await worker.serve(anybody, exposed, reloader.reload, stopping.set)
        reloading = asyncio.ensure_future(_reload(reloader.reload, rereading))
        await stopping.wait()
        reloading.cancel()
        await _drain(server, context)
    finally:
        if worker is not None:
            await worker.close()
        await running.stop(services)


async def supervise(chosen: Settings, arguments: Sequence[str], log_handler: LogHandler) -> None:
    """Run several processes on one port until SIGTERM or SIGINT.

    Args:
        arguments: the settings of the command line, for each process.
        log_handler: of all loggers.

    Raises:
        SettingError: a setting cannot be used.
        Unavailable: the database or the embedded Redis can't be started.
        WorkerFailed: a process cannot be started, or cannot be kept running.
    """
    stopping, rereading = _on_signals()
    sockets = bind(chosen.host, chosen.port, chosen.processes)
    port = sockets[0][0].getsockname()[1]
    _tls(chosen)  # what is wrong with it is said once, and here
    origins = _origins(chosen, sockets[0])
    opened = await open_infrastructure(chosen)
    try:
        check_shared(opened)
        if opened.lock is not None:
            opened.lock.record_public_url(origins.opened(providers=bool(chosen.oauth_providers)))
        available = opened.store.available
        await close_connections(opened)  # the database is migrated; its workers have their own

        def on_ready(anybody: bool) -> None:
            _warn(chosen)
            sys.stdout.write(welcome(opened, origins, port, anybody, available))
            sys.stdout.flush()

        command = [sys.executable, PROGRAM]
        supervisor = supervising.build(opened, command, arguments, sockets)
        telling = Background(opened.metrics)
        telling.every(REPORT_SECONDS, "report repeated log lines", log_handler.report_repeated)
        reload = supervising.Reloads(supervisor, opened).reload
        reloading = asyncio.ensure_future(_reload(reload, rereading))
        try:
            await supervisor.run(stopping, on_ready)
        finally:
            reloading.cancel()
            await telling.close()
    finally:
        await release_embedded(opened)


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events for: stop, and read the settings anew."""
    stopping, rereading = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, rereading.set)
    return stopping, rereading


def _origins(chosen: Settings, listeners: Sequence[socket.socket]) -> Origins:
    host, port = chosen.host, listeners[0].getsockname()[1]
    bound = [listener.getsockname()[0] for listener in listeners]
    scheme = "http" if chosen.tls_certificate is None else "https"
    return Origins(chosen.public_url, host, port, chosen.allowed_origins, bound, scheme)


def _warn(chosen: Settings) -> None:
    for warning in chosen.warnings:
        log.warning("%s", warning)


def _tls(chosen: Settings) -> Tls | None:
    if chosen.tls_certificate is None or chosen.tls_key is None:
        return None
    return Tls(chosen.tls_certificate, chosen.tls_key)


def _open(
    services: Services, origins: Origins, listeners: Sequence[socket.socket], tls: Tls | None
) -> tuple[UsherServer, SocketContext]:
    chosen = services.infrastructure.settings
    cookies = CookieJar(origins.secure, chosen.cookie_name_prefix, origins.path)
    proxies = Proxies(chosen.trusted_proxies)
    context = SocketContext(services, {**EVENTS, **ROOM_EVENTS}, proxies=proxies)
    branding = Branding(chosen.app_name, chosen.app_logo, chosen.app_accent)
    files = PageFiles(STATIC, branding, origins.path)
    site = Site(services, origins, proxies, cookies, load_pages(files), files, branding)
    upgrades = UpgradeHandler(context, origins, cookies, proxies)
    application = make_application(site, {"context": context, "upgrades": upgrades})
    direct = None if chosen.through_tornado else upgrades
    server = UsherServer(
        RequestRouter(application, direct, context.unjoined, UnderWay(), chosen.path_prefix),
        tickets=DirectTickets(site),
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        idle_connection_timeout=IDLE_CONNECTION_SECONDS,
        body_timeout=BODY_SECONDS,
        ssl_options=tls.context if tls is not None else None,
        proxies=proxies if chosen.proxy_protocol else None,
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


async def _reload(reload: Callable[[], Awaitable[bool]], rereading: asyncio.Event) -> None:
    while True:
        await rereading.wait()
        rereading.clear()
        await reload()


def _allow_many_sockets() -> None:
    """Use the file descriptors that the system allows; the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        log.info("the limit of open files stays: %s", error)


@contextmanager
def _logging(chosen: Settings, worker: Worker | None) -> Iterator[LogHandler]:
    writer = Writer(sys.stderr, worker.number if worker is not None else None)
    handler = LogHandler(writer, chosen.log_format, secret_values(chosen))
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


if __name__ == "__main__":
    sys.exit(main())
