#!/usr/bin/env bash
# Tornado 6.6.1 and wsproto 1.3.2 (under uvicorn 0.54.0) forget that a message is compressed when a
# ping comes between two of its fragments, which RFC 6455 section 5.4 allows: the application gets
# the compressed bytes as the binary message (wsproto: those of the second fragment), without any
# error. aiohttp 3.14.5, websockets 17.4 and
# uvicorn on websockets give the message. Known since 2023 (tornado#3353, wsproto#205, both open).
# Clients that ping on a timer while they send a long message meet it. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check tornado==6.6.1 aiohttp==3.14.5 uvicorn==0.54.0 \
  wsproto==1.3.2 websockets==17.4 2>/dev/null
cat > run.py <<'PY'
"""A ping between two fragments of one compressed message: RFC 6455 section 5.4, RFC 7692 section 6."""

import asyncio, base64, os, zlib
import aiohttp.web, tornado.web, tornado.websocket, uvicorn
from websockets.asyncio.server import serve

MESSAGE = b"one message, sent in two fragments with a ping between them. " * 4


def frame(first, payload):
    mask = os.urandom(4)
    return (
        bytes([first, 0x80 | len(payload)])
        + mask
        + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    )


async def echoed(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        (
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        ).encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head and b"permessage-deflate" in head.lower(), head
    deflate = zlib.compressobj(wbits=-15)
    data = (deflate.compress(MESSAGE) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    half = len(data) // 2
    writer.write(frame(0x42, data[:half]) + frame(0x89, b"ping") + frame(0x80, data[half:]))
    inflate = zlib.decompressobj(wbits=-15)
    try:
        while True:
            first, length = await asyncio.wait_for(reader.readexactly(2), 5)
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2), "big")
            payload = await reader.readexactly(length)
            if first & 0x0F == 0xA:
                continue
            if first & 0x0F == 8:
                return f"close {int.from_bytes(payload[:2], 'big')}"
            if first & 0x40:
                payload = inflate.decompress(payload + b"\0\0\xff\xff")
            if payload == MESSAGE:
                return "the message"
            if payload == data:
                return "compressed bytes"
            begun = payload.removesuffix(data[half:])
            cut = begun != payload and MESSAGE.startswith(begun)
            return "first fragment inflated, second not" if cut else "something else"
    except (asyncio.IncompleteReadError, ConnectionError):
        return "connection lost"
    finally:
        writer.close()


class Echo(tornado.websocket.WebSocketHandler):
    def get_compression_options(self):
        return {}

    async def on_message(self, message):
        await self.write_message(message, binary=isinstance(message, bytes))


async def aio(request):
    socket = aiohttp.web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(message.data)
    return socket


async def asgi(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": event["bytes"]})


async def ws(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    server = tornado.web.Application([("/", Echo)]).listen(0, "127.0.0.1")
    print("tornado:", await echoed(next(iter(server._sockets.values())).getsockname()[1]))
    server.stop()
    runner = aiohttp.web.AppRunner(app := aiohttp.web.Application())
    app.router.add_get("/", aio)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("aiohttp:", await echoed(runner.addresses[0][1]))
    await runner.cleanup()
    for form in ("wsproto", "websockets-sansio"):
        u = uvicorn.Server(
            uvicorn.Config(asgi, "127.0.0.1", 0, ws=form, lifespan="off", log_level="error")
        )
        task = asyncio.create_task(u.serve())
        while not u.started:
            await asyncio.sleep(0.02)
        print(f"uvicorn, {form}:", await echoed(u.servers[0].sockets[0].getsockname()[1]))
        u.should_exit = True
        await task
    async with serve(ws, "127.0.0.1", 0) as s:
        print("websockets:", await echoed(s.sockets[0].getsockname()[1]))


asyncio.run(main())
PY
out=$(timeout 60 venv/bin/python run.py 2>/dev/null); echo "$out"
diff - <<<"$out" <(cat <<'SEEN'
tornado: compressed bytes
aiohttp: the message
uvicorn, wsproto: first fragment inflated, second not
uvicorn, websockets-sansio: the message
websockets: the message
SEEN
)
