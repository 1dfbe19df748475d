"""Statements whose SQL is built once.

Peewee builds the SQL of a query anew each time, which takes longer than SQLite needs to execute it:
0.17 ms for one row of `login_sessions` by its id. What runs often is built once for each kind of
database, and gets only its values later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import peewee


class _Parameter:
    """Stands for a value in a query that is being built."""

    def __init__(self, number: int) -> None:
        self.number = number


class Statement:
    """A statement with parameters.

    Args:
        build: gives a query, for the database that it will run on and a node for each parameter.
        parameters: their number.
    """

    def __init__(self, build: Callable[..., Any], parameters: int) -> None:
        self._build, self._parameters = build, parameters
        self._built: dict[type[peewee.Database], tuple[str, tuple[Any, ...]]] = {}

    def rows(self, db: peewee.Database, *values: Any) -> Sequence[Sequence[Any]]:
        """Execute it, and return its rows as the driver has them: SQLite has numbers for booleans.

        Args:
            values: of the parameters, in their order, as the driver takes them.
        """
        rows: Sequence[Sequence[Any]] = self._execute(db, values).fetchall()
        return rows

    def row(self, db: peewee.Database, *values: Any) -> Sequence[Any] | None:
        """The same for the first row; None if there is none."""
        return next(iter(self.rows(db, *values)), None)

    def run(self, db: peewee.Database, *values: Any) -> int:
        """Execute a change, and return the number of changed rows."""
        return int(self._execute(db, values).rowcount)

    def _execute(self, db: peewee.Database, values: tuple[Any, ...]) -> Any:
        if len(values) != self._parameters:
            raise TypeError(f"{self._parameters} values are needed, not {len(values)}")
        built = self._built.get(type(db))
        if built is None:
            built = self._built[type(db)] = self._sql(db)
        sql, order = built
        return db.execute_sql(
            sql, [values[one.number] if type(one) is _Parameter else one for one in order]
        )

    def _sql(self, db: peewee.Database) -> tuple[str, tuple[Any, ...]]:
        # `converter=False`: the columns' own converters would be applied to what only stands there.
        nodes = [
            peewee.Value(_Parameter(number), converter=False) for number in range(self._parameters)
        ]
        sql, order = db.get_sql_context().sql(self._build(db, *nodes)).query()
        return sql, tuple(order)
