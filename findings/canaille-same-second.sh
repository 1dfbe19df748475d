#!/usr/bin/env bash
# Canaille 0.3.6 (PyPI), SQL backend: the access tokens of one person and client are JWTs that differ
# by the second alone (no jti). The second token within one second is answered with status 500
# ("UNIQUE constraint failed: token.access_token"), as two devices that refresh at once see it.
# Runs in a temporary folder; fails if that changes.
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
  venv/bin/canaille create user --user-name ada --password 'a quiet heron at dusk 7' \
    --emails ada@example.org --family-name Lovelace
  venv/bin/canaille create client --client-id rp --client-secret secret --client-name RP \
    --redirect-uris https://rp.example/cb --grant-types password --response-types code \
    --scope openid --token-endpoint-auth-method client_secret_basic
  venv/bin/canaille set client rp --audience rp
} >setup.log 2>&1 || { cat setup.log; exit 1; }
cat > run.py <<'PY'
import time
from canaille import create_app

client = create_app().test_client()
form = {"grant_type": "password", "scope": "openid", "username": "ada",
        "password": "a quiet heron at dusk 7"}
found = []
while len(found) < 2:  # two within one second
    time.sleep(1.05 - time.time() % 1)
    second = int(time.time())
    found = [client.post("/oauth/token", data=form, auth=("rp", "secret")).status_code for _ in "ab"]
    if int(time.time()) != second:
        found = []
time.sleep(1.1)
found.append(client.post("/oauth/token", data=form, auth=("rp", "secret")).status_code)
print("at once, at once, a second later:", *found)
PY
out=$(venv/bin/python run.py 2>run.log) || { cat run.log; exit 1; }
echo "$out" | grep '^at once'
grep -q '^at once, at once, a second later: 200 500 200$' <<<"$out"
