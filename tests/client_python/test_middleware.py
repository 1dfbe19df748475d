"""The middleware in real servers: FastAPI on uvicorn, Flask on its own server, and Tornado."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import flask
import pytest
import uvicorn
from tornado import httpserver, netutil, web
from werkzeug.serving import make_server

from tests.client_python.conftest import Place
from tests.support.server import PATIENCE, free_port, sign_up
from usher_client.backend import Caller, Introspection
from usher_client.backend.asgi import UsherMiddleware as AsgiMiddleware
from usher_client.backend.asgi import caller_of as asgi_caller
from usher_client.backend.tornado import UsherHandler
from usher_client.backend.wsgi import UsherMiddleware as WsgiMiddleware
from usher_client.backend.wsgi import caller_of as wsgi_caller

Served = tuple[str, str]
"""One app that accepts unauthenticated requests, and one that requires a token."""


def shown(caller: Caller | None) -> dict[str, Any]:
    return {"id": caller.id if caller else None}


@contextmanager
def on_uvicorn(url: str, key: str, *, required: bool) -> Iterator[str]:
    app = fastapi.FastAPI()
    app.add_middleware(
        AsgiMiddleware, checks=Introspection(url, key), required=required, open_paths=["/open"]
    )

    @app.get("/")
    @app.get("/open")
    def who(request: fastapi.Request) -> dict[str, Any]:
        return shown(asgi_caller(request))

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + PATIENCE
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@contextmanager
def on_flask(url: str, key: str, *, required: bool) -> Iterator[str]:
    app = flask.Flask(__name__)

    @app.get("/")
    @app.get("/open")
    def who() -> dict[str, Any]:
        return shown(wsgi_caller(flask.request.environ))

    checks = Introspection(url, key)
    middleware = WsgiMiddleware(app, checks, required=required, open_paths=["/open"])
    server = make_server("127.0.0.1", 0, middleware, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
        middleware.close()


class Who(UsherHandler):
    def get(self) -> None:
        self.write(shown(self.caller))


class WhoMust(Who):
    required = True


@contextmanager
def on_tornado(url: str, key: str, *, required: bool) -> Iterator[str]:
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with Introspection(url, key) as checks:
            handlers = [("/", WhoMust if required else Who), ("/open", Who)]
            app = web.Application(handlers, usher_checks=checks, log_function=lambda _: None)
            server = httpserver.HTTPServer(app)
            server.add_sockets(sockets)
            await over.wait()
            server.stop()
            await server.close_all_connections()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE)
        loop.close()


SERVERS: dict[str, Callable[..., Any]] = {
    "fastapi": on_uvicorn,
    "flask": on_flask,
    "tornado": on_tornado,
}


def get(url: str, token: str | None = None) -> tuple[int, Any, Any]:
    """Status, headers and JSON of an answer."""
    request = urllib.request.Request(url)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.load(error)


@pytest.fixture(scope="module", params=SERVERS)
def serve(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return SERVERS[request.param]


def test_the_app_gets_the_caller_or_none(place: Place, serve: Callable[..., Any]) -> None:
    ada = sign_up(place.server)
    with serve(place.server.url, place.key, required=False) as url:
        assert get(url, ada.token)[2] == {"id": ada.user["id"]}
        assert get(url, place.app_token(ada))[2] == {"id": ada.user["id"]}
        for nobody in (None, "x", "a.b.c"):
            status, _, body = get(url, nobody)
            assert (status, body) == (200, {"id": None})


def test_if_required_an_unauthenticated_caller_gets_401(
    place: Place, serve: Callable[..., Any]
) -> None:
    ada = sign_up(place.server)
    with serve(place.server.url, place.key, required=True) as url:
        assert get(url, ada.token)[0] == 200
        for nobody in (None, "x"):
            status, headers, body = get(url, nobody)
            assert (status, body["status"]) == (401, 401)
            assert headers["WWW-Authenticate"] == "Bearer"
            assert headers["Content-Type"].startswith("application/problem+json")
        assert get(url + "/open")[0] == 200


def test_an_undetermined_result_is_503_and_never_401(serve: Callable[..., Any]) -> None:
    with serve("http://127.0.0.1:9", "usher_key_x", required=False) as url:
        status, headers, _ = get(url, "some.token.here")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert get(url)[0] == 200, "who shows no token is asked about by nobody"
