#!/usr/bin/env bash
# HAProxy 2.6.12 (Debian 12) with send-proxy-v2 sends the command LOCAL in front of the bytes of a client whose address it
# does not know, such as one on a UNIX socket. The specification of the PROXY protocol (section 2.2) has LOCAL for
# connections that the proxy itself made, "without being relayed", and has receivers take the proxy's own address then.
# A receiver that trusts X-Forwarded-For from that address believes the client's. With send-proxy it is UNKNOWN.
# Runs in a temporary folder; fails if that changes. Needs apt-get; installs nothing on the system.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
haproxy=$(command -v haproxy || echo /usr/sbin/haproxy)
if [[ $("$haproxy" -v 2>/dev/null) != *'version 2.6.12'* ]]; then
  for name in haproxy liblua5.3-0 libopentracing-c-wrapper0 libpcre2-8-0; do
    apt-get download -qq "$name" 2>/dev/null || true
  done
  for file in *.deb; do dpkg -x "$file" .; done
  haproxy=$folder/usr/sbin/haproxy
  export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu:$folder/lib/x86_64-linux-gnu
fi
"$haproxy" -v | sed -n 1p
cat > run.py <<'PY'
import socket, subprocess, sys, time
server = socket.create_server(("127.0.0.1", 0))
server.settimeout(10)
port = server.getsockname()[1]
lines = ["defaults", " mode tcp", " timeout connect 5s", " timeout client 5s", " timeout server 5s"]
for option in ("send-proxy", "send-proxy-v2"):
    lines += [f"listen {option}", f" bind unix@./{option}", f" server n 127.0.0.1:{port} {option}"]
open("haproxy.cfg", "w").write("\n".join(lines) + "\n")
process = subprocess.Popen([sys.argv[1], "-db", "-f", "haproxy.cfg"])
try:
    for option in ("send-proxy", "send-proxy-v2"):
        client = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                client.connect(option)
                break
            except OSError:
                time.sleep(0.05)
        client.sendall(b"hello")
        relayed, _ = server.accept()
        got = b""
        while b"hello" not in got:
            got += relayed.recv(100)
        print(option, got)
finally:
    process.terminate()
    process.wait()
PY
out=$(python3 run.py "$haproxy"); echo "$out"
grep -qF "send-proxy b'PROXY UNKNOWN\r\nhello'" <<<"$out"
grep -qF "send-proxy-v2 b'\r\n\r\n\x00\r\nQUIT\n \x00\x00\x00hello'" <<<"$out"  # the space is 0x20: LOCAL
