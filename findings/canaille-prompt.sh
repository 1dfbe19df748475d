#!/usr/bin/env bash
# Canaille 0.3.6 (PyPI) compares `prompt` as a whole with the words that it supports: "login consent"
# is refused with invalid_request, and "login" alone is taken. OIDC Core 1.0 section 3.1.2.1 has it as
# a list separated by spaces. Runs in a temporary folder; fails if that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv; venv/bin/pip install --quiet 'canaille[front,oidc,server,sqlite]==0.3.6'
cat > canaille.toml <<TOML
SECRET_KEY = "of this script"
[CANAILLE]
DATABASE = "sql"
[CANAILLE_SQL]
DATABASE_URI = "sqlite:///$folder/db.sqlite"
[CANAILLE_OIDC]
TOML
export CANAILLE_CONFIG=$folder/canaille.toml
{
  venv/bin/canaille db upgrade
  venv/bin/canaille create client --client-id rp --client-secret secret --client-name RP \
    --redirect-uris https://rp.example/cb --grant-types authorization_code --response-types code \
    --scope openid --token-endpoint-auth-method client_secret_basic
} >setup.log 2>&1 || { cat setup.log; exit 1; }
cat > run.py <<'PY'
from canaille import create_app

client = create_app().test_client()
ask = ("/oauth/authorize?response_type=code&client_id=rp&scope=openid&nonce=n&state=s"
       "&redirect_uri=https://rp.example/cb&prompt=")
for prompt in ("login", "login%20consent"):
    print("prompt", prompt, "->", client.get(ask + prompt).headers.get("Location"))
PY
out=$(venv/bin/python run.py 2>run.log) || { cat run.log; exit 1; }
grep '^prompt' <<<"$out"
grep -q '^prompt login -> /login$' <<<"$out"
grep -q '^prompt login%20consent -> https://rp.example/cb?error=invalid_request' <<<"$out"
