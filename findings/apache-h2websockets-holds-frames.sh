#!/usr/bin/env bash
# Apache httpd 2.4.71 (Debian 12) with `H2WebSockets on` and mod_proxy_http (upgrade=websocket) offers WebSockets within
# HTTP/2 (RFC 8441), but holds back a frame that it receives together with the 101, until the server sends something else.
# Over HTTP/1.1, the same Apache passes it on at once. Here the server sends the 101 and a frame in one write, and a second
# frame 4 s later.
# The client here: h2 4.4.1. Runs in a temporary folder; fails if that changes. Needs apache2 2.4.71 (apt-get install
# apache2); uses none of its configuration.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"; chmod 755 .
apache=$(command -v apache2 || echo /usr/sbin/apache2)
version=$("$apache" -v | sed -n 's/^Server version: //p'); echo "$version"
[[ $version == *2.4.71* ]]
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h2==4.4.1 hpack==4.2.0 hyperframe==6.1.0 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
  -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>/dev/null
cat > run.py <<'PY'
import base64, hashlib, os, re, socket, ssl, subprocess, sys, threading, time
import h2.connection, h2.events
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
EARLY, SECOND, LATE = 2.0, 4.0, 6.0

def serve(server):
    while True:
        sock, _ = server.accept()
        threading.Thread(target=talk, args=(sock,), daemon=True).start()

def talk(sock):
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)[1]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + b"\x81\x04tick")
    time.sleep(SECOND)
    sock.sendall(b"\x81\x04tick")
    time.sleep(60)

def connect(port, protocol):
    for _ in range(200):
        try:
            raw = socket.create_connection(("127.0.0.1", port), 10)
            break
        except OSError:
            time.sleep(0.05)
    context = ssl.create_default_context(cafile="cert.pem")
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(raw, server_hostname="127.0.0.1")

def read(sock, end):
    sock.settimeout(max(0.01, end - time.monotonic()))
    try:
        return sock.recv(65536)
    except TimeoutError:
        return b""

def by_http_1(port):
    sock, found = connect(port, "http/1.1"), b""
    sock.sendall(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    counts, start = [], time.monotonic()
    for end in (start + EARLY, start + LATE):
        while time.monotonic() < end:
            found += read(sock, end)
        counts.append(found.count(b"tick"))
    return counts

def by_http_2(port):
    sock, http, asked, found = connect(port, "h2"), h2.connection.H2Connection(), False, b""
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    counts, start = [], time.monotonic()
    for end in (start + EARLY, start + LATE):
        while time.monotonic() < end:
            data = read(sock, end)
            for event in http.receive_data(data) if data else ():
                if isinstance(event, h2.events.RemoteSettingsChanged) and not asked:
                    asked = True
                    http.send_headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                                          (":path", "/ws"), (":authority", "localhost"), ("sec-websocket-version", "13")])
                elif isinstance(event, h2.events.DataReceived):
                    found += event.data
            sock.sendall(http.data_to_send())
        counts.append(found.count(b"tick"))
    return counts

def free():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]

server, port, here = socket.create_server(("127.0.0.1", 0)), free(), os.getcwd()
threading.Thread(target=serve, args=(server,), daemon=True).start()
modules = {"mpm_event": "mpm_event", "authz_core": "authz_core", "ssl": "ssl", "http2": "http2", "proxy": "proxy",
           "proxy_http": "proxy_http"}
lines = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules]
lines += [f"ServerRoot {here}", f"DefaultRuntimeDir {here}", f"PidFile {here}/pid", "ServerName localhost", "User www-data",
          "Group www-data", f"ErrorLog {here}/error.log", f"Listen 127.0.0.1:{port} https", f"<VirtualHost 127.0.0.1:{port}>",
          "SSLEngine on", f"SSLCertificateFile {here}/cert.pem", f"SSLCertificateKeyFile {here}/key.pem",
          "Protocols h2 http/1.1", "H2WebSockets on",
          f"ProxyPass / http://127.0.0.1:{server.getsockname()[1]}/ upgrade=websocket", "</VirtualHost>"]
open("httpd.conf", "w").write("\n".join(lines) + "\n")
apache = subprocess.Popen([sys.argv[1], "-DFOREGROUND", "-f", f"{here}/httpd.conf"], stderr=subprocess.DEVNULL)
try:
    first, second = by_http_1(port), by_http_2(port)
    print(f"frames after {EARLY} s and {LATE} s: HTTP/1.1 {first}, HTTP/2 {second}")
    sys.exit(not (first == [1, 2] and second == [0, 2]))
finally:
    apache.terminate()
    apache.wait()
PY
venv/bin/python run.py "$apache"
