#!/usr/bin/env bash
# lighttpd 1.4.69 (Debian 12): with mod_proxy and `"upgrade" => "enable"`, server.max-request-size counts all bytes that the
# client has sent over a WebSocket, and not only the request's body. Here it is 64 KiB: a socket that sends frames of 1 KiB
# is cut, without a close frame, with its 65th, however slowly they come. The error log says "request-size too long … -> 413".
# Runs in a temporary folder; fails if that changes. Needs lighttpd 1.4.69 (apt-get install lighttpd).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
lighttpd=$(command -v lighttpd || echo /usr/sbin/lighttpd)
version=$("$lighttpd" -v | sed -n 1p); echo "$version"
[[ $version == *1.4.69* ]]
cat > run.py <<'PY'
import os, socket, subprocess, sys, threading, time

def echo(server):
    """Answers each frame of the client with one of its own; the client masks with zeros."""
    while True:
        sock, _ = server.accept()
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        data = b""
        while more := sock.recv(65536):
            data += more
            while len(data) >= FRAME:
                data = data[FRAME:]
                sock.sendall(b"\x81\x02ok")

FRAME = 1024
def free():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]

server, port, here = socket.create_server(("127.0.0.1", 0)), free(), os.getcwd()
threading.Thread(target=echo, args=(server,), daemon=True).start()

def frames(limit):
    with open("lighttpd.conf", "w") as file:
        file.write(f'server.modules = ("mod_proxy")\nserver.document-root = "{here}"\nserver.bind = "127.0.0.1"\n'
                   f'server.port = {port}\nserver.errorlog = "{here}/error.log"\n{limit}\n'
                   'proxy.header = ("upgrade" => "enable")\n'
                   f'proxy.server = ("" => (("host" => "127.0.0.1", "port" => {server.getsockname()[1]})))\n')
    process = subprocess.Popen([sys.argv[1], "-D", "-f", "lighttpd.conf"])
    try:
        for _ in range(200):
            try:
                sock = socket.create_connection(("127.0.0.1", port), 10)
                break
            except OSError:
                time.sleep(0.05)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 101")
        for count in range(200):
            try:
                sock.sendall(b"\x81\xfe" + (FRAME - 8).to_bytes(2, "big") + b"\0\0\0\0" + b"x" * (FRAME - 8))
                if sock.recv(4) != b"\x81\x02ok":
                    return count
            except OSError:
                return count
        return 200
    finally:
        process.terminate()
        process.wait()

found = {limit: frames(limit) for limit in ("", "server.max-request-size = 64")}
for limit, count in found.items():
    print(f"{limit or 'no limit'}: {count} of 200 frames of 1 KiB were answered")
print(*[line.split(") ", 1)[-1].strip() for line in open("error.log") if "413" in line])
sys.exit(list(found.values())[0] != 200 or not 60 <= list(found.values())[1] <= 66)
PY
python3 run.py "$lighttpd"
