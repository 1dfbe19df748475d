"""Reports missing PostgreSQL privileges in one line at start, instead of in every response."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import asyncpg
import peewee

import models
from models.base import Row
from services.errors import SettingError
from services.storage import database_errors
from services.storage.postgresql_url import SETTING, TAKES

# All modules of models are imported here, so that every table is checked.
for _module in iter_modules(models.__path__, "models."):
    import_module(_module.name)

_TABLES = """
SELECT string_agg(r.privilege, ', ' ORDER BY r.privilege) || ' on table ' || t.name
FROM unnest(string_to_array(%s, ',')) AS t(name)
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r(privilege)
WHERE NOT has_table_privilege(to_regclass(quote_ident(t.name)), r.privilege)
GROUP BY t.name ORDER BY t.name
"""
_SEQUENCES = """
SELECT 'USAGE on sequence ' || s.oid::regclass
FROM unnest(string_to_array(%s, ',')) AS t(name)
JOIN pg_depend d ON d.refobjid = to_regclass(quote_ident(t.name)) AND d.deptype IN ('a', 'i')
JOIN pg_class s ON s.oid = d.objid
WHERE CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') ELSE false END
ORDER BY 1
"""
MAX_NAMED = 3
_OPTION_REFUSED = (
    asyncpg.ClientConfigurationError,
    asyncpg.UndefinedObjectError,  # 42704: no such setting of the server
    asyncpg.InvalidParameterValueError,  # 22023
    asyncpg.CantChangeRuntimeParamError,  # 55P02
)
_POOLER_REFUSES = ("unsupported startup parameter", "transaction blocks not allowed")
"""PgBouncer's words; it gives them the code of a broken protocol, or hangs up with them."""


def missing_rights(db: peewee.Database) -> list[str]:
    """The privileges on Usher's tables that the database user lacks. PostgreSQL only.

    Returns:
        For example `["DELETE, INSERT on table users", "USAGE on sequence revocations_id_seq"]`.
    """
    tables = (model._meta.table_name for model in _models(Row))  # noqa: SLF001 - as documented
    names = ",".join(sorted(tables))
    asked = (db.execute_sql(question, (names,)) for question in (_TABLES, _SEQUENCES))
    return [text for cursor in asked for (text,) in cursor.fetchall()]


def _models(base: type[Row]) -> Iterator[type[Row]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def check_rights(db: peewee.Database, shown: str) -> None:
    """Check the privileges of the database user, in a separate transaction. PostgreSQL only.

    Raises:
        SettingError: privileges are missing; the text names them.
    """
    with db.atomic():
        (user,) = db.execute_sql("SELECT current_user::text").fetchone()
        missing = missing_rights(db)
    if missing:
        raise _missing_error(shown, user, missing)


def explain(error: BaseException, shown: str, user: str) -> SettingError | None:
    """The message for a permanent error at the start; None for errors that a retry may solve.

    The server's texts that are included name tables, schemas, users and parameters. They contain
    no value of a row and no password.

    Args:
        shown: the URL without credentials.
        user: the database user.
    """
    cause = database_errors.origin(error)
    if isinstance(cause, asyncpg.InsufficientPrivilegeError):
        return _missing_error(shown, user, [f"a right ({cause.args[0]})"])
    if isinstance(cause, asyncpg.InvalidSchemaNameError):
        return _missing_error(shown, user, [f"USAGE and CREATE on a schema ({cause.args[0]})"])
    if isinstance(cause, _OPTION_REFUSED) or any(text in str(cause) for text in _POOLER_REFUSES):
        return SettingError(SETTING, f"{shown} ({cause})", TAKES)
    return None


def _missing_error(shown: str, user: str, missing: list[str]) -> SettingError:
    more = len(missing) - MAX_NAMED
    named = ", ".join(missing[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
    return SettingError(
        SETTING,
        f'{shown}, where the user "{user}" lacks {named}',
        "a database that its user owns, or one with all rights on Usher's tables granted",
    )
