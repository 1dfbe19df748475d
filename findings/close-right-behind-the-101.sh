#!/usr/bin/env bash
# Two Python clients leave a close frame that arrived in one packet with the 101 where it is, until more data arrives:
# simple-websocket 1.1.0 also the message before it, ws4py 0.6.0 only the close frame. A server that refuses somebody
# by a close code right after the handshake is not heard: here after two seconds with nothing else sent.
# websockets 17.4 and websocket-client 1.9.2 report both. Runs in a temporary folder; fails if that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check \
  simple-websocket==1.1.0 ws4py==0.6.0 websockets==17.4 websocket-client==1.9.2
cat > run.py <<'PY'
import base64, hashlib, os, socket, struct, threading
import simple_websocket, websocket, websockets.sync.client
from ws4py.client.threadedclient import WebSocketClient

def serve(listener):
    """101, a text and a close with 4401 in one packet; the end of TCP when the client has answered."""
    peer, _ = listener.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    key = [line.split(b":")[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")][0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    close = struct.pack("!H", 4401) + b"unauthenticated"
    peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                 + b"\x81\x03why" + bytes([0x88, len(close)]) + close)
    peer.recv(4096)
    peer.close()

def url():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    return f"ws://127.0.0.1:{listener.getsockname()[1]}/"

def of_websockets(heard):
    with websockets.sync.client.connect(url(), proxy=None) as client:
        try:
            while True:
                heard.append(client.recv())
        except websockets.ConnectionClosed as closed:
            heard.append(closed.rcvd.code)

def of_websocket_client(heard):
    client = websocket.create_connection(url())
    heard.append(client.recv())
    _, data = client.recv_data()
    heard.append(int.from_bytes(data[:2], "big"))

def of_simple_websocket(heard):
    client = simple_websocket.Client(url())
    try:
        while True:
            heard.append(client.receive())
    except simple_websocket.ConnectionClosed as closed:
        heard.append(int(closed.reason))

def of_ws4py(heard):
    class Client(WebSocketClient):
        def received_message(self, message):
            heard.append(message.data.decode())
        def closed(self, code, reason=None):
            heard.append(code)
    client = Client(url())
    client.daemon = True
    client.connect()
    client.run_forever()

for one in (of_websockets, of_websocket_client, of_simple_websocket, of_ws4py):
    heard = []
    thread = threading.Thread(target=one, args=(heard,), daemon=True)
    thread.start()
    thread.join(2)
    print(one.__name__, *heard, flush=True)
os._exit(0)
PY
out=$(v/bin/python run.py); echo "$out"
grep -qx 'of_websockets why 4401' <<<"$out"
grep -qx 'of_websocket_client why 4401' <<<"$out"
grep -qx 'of_simple_websocket' <<<"$out"
grep -qx 'of_ws4py why' <<<"$out"
