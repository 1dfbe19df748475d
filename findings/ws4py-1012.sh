#!/usr/bin/env bash
# ws4py 0.6.0 (PyPI) reports a close with 1012 (Service Restart, registered with IANA) as 1005 (no code was sent) with
# the reason "Invalid Closing Frame Code: 1012". 1001 and 4410 arrive as they are. Server here: websockets 17.4.
# Runs in a temporary folder; fails if that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv v; v/bin/pip install --quiet --disable-pip-version-check ws4py==0.6.0 websockets==17.4
cat > run.py <<'PY'
import threading
from websockets.sync.server import serve
from ws4py.client.threadedclient import WebSocketClient

class Client(WebSocketClient):
    def opened(self):
        self.send("hello")
    def closed(self, code, reason=None):
        print(sent, "->", code, reason.decode() if isinstance(reason, bytes) else reason, flush=True)

def talk(socket):
    socket.recv()
    socket.close(sent, "a reason")

with serve(talk, "127.0.0.1", 0) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for sent in (1001, 1012, 4410):
        client = Client(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/")
        client.connect()
        client.run_forever()
    server.shutdown()
PY
out=$(v/bin/python run.py 2>/dev/null); echo "$out"
grep -qx '1001 -> 1001 a reason' <<<"$out"
grep -qx '4410 -> 4410 a reason' <<<"$out"
grep -qx '1012 -> 1005 Invalid Closing Frame Code: 1012' <<<"$out"
