"""Maps errors of Peewee, asyncpg and sqlite3 to errors of Usher."""

from __future__ import annotations

import asyncio
import sqlite3

import asyncpg
import peewee

from services.errors import DatabaseUnavailable

# What a run may raise that is not the work's own. Peewee wraps most of the drivers' errors,
# but by the name of the class only, so several of asyncpg's arrive bare.
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
# The connection is gone or of no use; a new one may help at once.
DROPPED = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.AdminShutdownError,  # 57P01
    asyncpg.CrashShutdownError,  # 57P02
    asyncpg.IdleInTransactionSessionTimeoutError,  # 25P03
    asyncpg.ReadOnlySQLTransactionError,  # 25006: not the primary any more
)
# The server is there but will not or cannot do it now.
OVERLOADED = (
    asyncpg.OperatorInterventionError,  # class 57: statement_timeout, starting up
    asyncpg.InsufficientResourcesError,  # class 53
    asyncpg.LockNotAvailableError,  # 55P03
    asyncpg.PostgresSystemError,  # class 58
    asyncpg.InternalServerError,  # class XX: corrupt
    asyncpg.TransactionRollbackError,  # class 40, and twice in a row
    asyncpg.InsufficientPrivilegeError,  # 42501: a right was taken away meanwhile
)


def origin(error: BaseException) -> BaseException:
    """The driver's own error, which Peewee keeps inside its wrapper."""
    inner = getattr(error, "orig", None)
    return inner if isinstance(inner, BaseException) else error


def is_dropped(error: BaseException) -> bool:
    """The connection must not be used again."""
    return isinstance(origin(error), DROPPED)


def is_rolled_back(error: BaseException) -> bool:
    """The database undid the transaction to let another one pass: it may be tried again."""
    cause = origin(error)
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)  # sqlite_errorcode only exists from Python 3.11 on
    return isinstance(cause, asyncpg.TransactionRollbackError)


def refusal(error: BaseException, kind: str, lost: bool) -> Exception:
    """What the caller of `Database.run` gets to see.

    Args:
        error: as it came out of Peewee or the driver.
        kind: "sqlite" or "postgresql".
        lost: whether its connection is closed by now.

    Returns:
        DatabaseUnavailable where the database is the trouble. Otherwise an error of the same
        class without the values that the drivers and Peewee put into the text ("Key
        (email)=(…) already exists"), because an error that nobody expected ends in the log.
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
        # A full disk, a read-only file, a lock held too long. A mistake in the SQL has the
        # same class on SQLite, but not the right to pass for an outage.
        return not str(cause).startswith(("no such ", "near ", "table "))
    # Only what is no subclass: "file is not a database", "database disk image is malformed".
    return type(cause) is sqlite3.DatabaseError


def describe(cause: BaseException) -> str:
    """The error in words that hold no value of any row."""
    if isinstance(cause, asyncpg.PostgresError):
        constraint = getattr(cause, "constraint_name", None)
        suffix = f" ({constraint})" if constraint else ""
        return f"{type(cause).__name__} {cause.sqlstate}{suffix}"
    if isinstance(cause, (sqlite3.Error, OSError)):
        return f"{type(cause).__name__}: {cause}"
    return type(cause).__name__
