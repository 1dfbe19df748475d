"""Maps errors of Peewee, asyncpg and sqlite3 to errors of Usher."""

from __future__ import annotations

import asyncio
import sqlite3

import asyncpg
import peewee

from services.errors import DatabaseUnavailable

# Errors of the database, as opposed to errors raised by `work`. Peewee wraps most of the drivers'
# errors, but by class name only, so several of asyncpg's are raised unwrapped.
DRIVER_ERRORS: tuple[type[Exception], ...] = (
    peewee.PeeweeException,
    peewee.DoesNotExist,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    sqlite3.Error,
    OSError,
    asyncio.TimeoutError,  # a subclass of OSError from Python 3.11 on only
)
# The connection is lost or unusable; a new one may work at once.
DROPPED = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.AdminShutdownError,  # 57P01
    asyncpg.CrashShutdownError,  # 57P02
    asyncpg.IdleInTransactionSessionTimeoutError,  # 25P03
    asyncpg.ReadOnlySQLTransactionError,  # 25006: not the primary any more
)
# The server is reachable, but refuses or fails now.
OVERLOADED = (
    asyncpg.OperatorInterventionError,  # class 57: statement_timeout, starting up
    asyncpg.InsufficientResourcesError,  # class 53
    asyncpg.LockNotAvailableError,  # 55P03
    asyncpg.PostgresSystemError,  # class 58
    asyncpg.InternalServerError,  # class XX: corrupt
    asyncpg.TransactionRollbackError,  # class 40, and twice in a row
    asyncpg.InsufficientPrivilegeError,  # 42501: a privilege was revoked meanwhile
)


def origin(error: BaseException) -> BaseException:
    """The driver's error inside Peewee's wrapper."""
    inner = getattr(error, "orig", None)
    return inner if isinstance(inner, BaseException) else error


def is_connection_lost(error: BaseException) -> bool:
    """Whether the connection must not be used again."""
    return isinstance(origin(error), DROPPED)


def is_rolled_back(error: BaseException) -> bool:
    """Whether the database rolled the transaction back (deadlock, serialisation): retry it."""
    cause = origin(error)
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)  # sqlite_errorcode only exists from Python 3.11 on
    return isinstance(cause, asyncpg.TransactionRollbackError)


def refusal(error: BaseException, kind: str, lost: bool) -> Exception:
    """Map an error to the one that `Database.run` raises.

    Args:
        error: the error raised by Peewee or the driver.
        kind: "sqlite" or "postgresql".
        lost: whether the connection is closed.

    Returns:
        DatabaseUnavailable if the database failed. Otherwise an error of the same class, without
        the values that the drivers and Peewee put into the text ("Key (email)=(…) already
        exists"), because unexpected errors are logged.
    """
    cause = origin(error)
    if lost or _is_unavailable(cause):
        return DatabaseUnavailable(f"{kind}: {describe(cause)}")
    if isinstance(error, (peewee.PeeweeException, peewee.DoesNotExist)):
        return type(error)(describe(cause))
    return peewee.DatabaseError(describe(cause))


def _is_unavailable(cause: BaseException) -> bool:
    if isinstance(cause, (*DROPPED, *OVERLOADED)):
        return True
    if isinstance(cause, (sqlite3.OperationalError, peewee.OperationalError)):
        # A full disk, a read-only file, a lock held too long. On SQLite, invalid SQL raises the
        # same class, but must not be reported as an outage.
        return not str(cause).startswith(("no such ", "near ", "table "))
    # Only the class itself: "file is not a database", "database disk image is malformed".
    return type(cause) is sqlite3.DatabaseError


def describe(cause: BaseException) -> str:
    """Describe the error without any value of a row."""
    if isinstance(cause, asyncpg.PostgresError):
        constraint = getattr(cause, "constraint_name", None)
        suffix = f" ({constraint})" if constraint else ""
        return f"{type(cause).__name__} {cause.sqlstate}{suffix}"
    if isinstance(cause, (sqlite3.Error, OSError)):
        return f"{type(cause).__name__}: {cause}"
    return type(cause).__name__
