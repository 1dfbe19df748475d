"""The process: no secret in its log, its Redis or its database."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.checks import content, holding
from tests.support.databases import on_both
from tests.support.process import database_kind, usher
from tests.support.redis import ask as ask_redis
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    Client,
    Usher,
    address,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    new_token,
    receive,
    sign_up,
)

__all__ = ["database_kind"]


@on_both
@pytest.mark.gen_test
async def test_no_secret_reaches_the_log_redis_or_the_database(database_kind: str) -> None:
    secrets_ = ",".join(letter * 40 for letter in "pq")
    with usher(database_kind, JWT_SECRETS=secrets_) as server:
        words, addresses = await whole_flow(server)
        words += secrets_.split(",")
        words.append((server.data_dir / "encryption_keys.key").read_text().split()[-1])
        path = server.data_dir / "redis" / "redis.sock"
        keys = ask_redis(path, "KEYS", "*")
        assert len(keys) > 3
        for key in keys:
            kind = ask_redis(path, "TYPE", key)
            value = (
                ask_redis(path, "GET", key)
                if kind == b"string"
                else repr(ask_redis(path, "ZRANGE", key, 0, -1)).encode()
            )
            assert holding(words + addresses, key + b" " + value) == []
        assert server.end() == 0
        assert "POST /api/auth/login" in server.log  # it does log what was refused
        assert holding(words + addresses, server.log) == []
        files = [p for p in (server.data_dir / "redis").rglob("*") if p.is_file()]
        assert any(p.suffix == ".aof" and p.stat().st_size for p in files)
        for file in files:
            assert holding(words + addresses, file.read_bytes()) == [], file
        # The database holds the addresses, and of all else hashes only.
        for file in server.data_dir.glob("usher.db*"):
            assert holding(words, file.read_bytes()) == [], file
        kept = content(server)
        assert len(kept["users"]) == len(addresses)
        assert holding(words, repr(kept)) == []


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_unauthenticated_clients_put_where_it_does_not_belong_reaches_no_log(
    log_format: str,
) -> None:
    with usher("sqlite", LOG_FORMAT=log_format) as server:
        client, email = sign_up(server), address()
        ticket, token = client.ticket(), str(client.token)
        query = f"ticket={ticket}&access_token={token}&email={email}"
        protocol = "Sec-WebSocket-Protocol"
        form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1\r\n\r\n"
        requests = [
            f"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\x01\r\n\r\n",
            f"GET /healthz HTTP/1.1\r\nHost: x\r\nX\x02{token}: y\r\n\r\n",
            f"GET /healthz HTTP/1.1\r\nHost: {token}@{email}\r\n\r\n",
            f"GET /ws HTTP/1.1\r\nHost: x\r\n{protocol}: usher.bearer.{token}\x7f\r\n\r\n",
            f"{token} /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /api/{email} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /api/{email.replace('@', '%40')} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /api/{token}/{ticket}/{client.refresh_token} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"POST /api/auth/login?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            f"GET /ws?{query} HTTP/1.1\r\nHost: x\r\nOrigin: https://{email}\r\n\r\n",
            f"GET /ws?{query}&{'x' * 5000} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Encoding: {token}\r\n{form}=",
        ]
        for request in requests:
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as raw:
                raw.sendall(request.encode("latin-1"))
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
        assert server.end() == 0
        assert "Malformed HTTP" in server.log
        assert "[e-mail]" in server.log
        words = [token, ticket, str(client.refresh_token), email, email.partition("@")[0]]
        assert holding(words, server.log) == []
        if log_format == "json":
            logged = [json.loads(line) for line in server.output if line.startswith("{")]
            assert all({"time", "level", "logger"} <= set(line) for line in logged)
            assert len(logged) > 5


async def whole_flow(server: Usher) -> tuple[list[str], list[str]]:
    """Use everything once, well and badly. Returns what was secret in it, and the addresses."""
    emails = [address(), address()]
    new = "nine slow barges 41"
    wrong = "a wrong guess of mine 5"
    client, browser = sign_up(server, email=emails[0]), log_in(server, emails[0], browser=True)
    user = sign_up(server, email=emails[1])
    words = [PASSWORD, new, wrong, str(client.token), str(user.token), *browser.cookies.values()]
    words += [str(client.refresh_token), str(user.refresh_token)]
    login = Client(server).post("/api/auth/login", {"email": emails[0], "password": wrong})
    assert login.status == 401
    taken = {"email": emails[0], "password": wrong, "name": "Eve"}
    assert Client(server).post("/api/auth/signup", taken).status == 409
    changed = user.post("/api/auth/password", {"current_password": PASSWORD, "new_password": new})
    assert changed.status == 204
    bad = Client(server).call("POST", "/api/auth/login", b'{"password": "' + wrong.encode())
    assert bad.status == 400
    for query in ("ticket=", "token=", "access_token="):
        assert Client(server).get(f"/nope?{query}{client.token}").status == 404
    tickets = [client.ticket() for _ in range(4)]
    words += tickets
    for ticket in (tickets[0], tickets[0], tickets[1] + "x"):
        async with connect(server, f"?ticket={ticket}") as socket_:
            await receive(socket_)
    async with connect(server, subprotocols=bearer(client.token)) as socket_:
        await event(socket_, "joined")
        await socket_.send(f'{{"event": "token-refresh", "data": {{"token": "{tickets[2]}"}}}}')
        words.append(str(new_token(client)))
        words.append(str(client.refresh_token))
        assert client.post("/api/auth/logout").status == 204
        assert await close_code(socket_) == 4410
    async with connect(server, subprotocols=bearer(client.token)) as socket_:
        assert await close_code(socket_) == 4401
    async with connect(server) as socket_:
        data = f'{{"auth": {{"token": "{user.token}x"}}}}'
        await socket_.send(f'{{"event": "user-join", "data": {data}}}')
        assert await close_code(socket_) == 4401
    body = {"refresh_token": client.refresh_token}
    assert Client(server).post("/api/auth/refresh", body).status == 401
    assert browser.post("/api/auth/refresh").status == 200
    words += browser.cookies.values()
    return words, emails
