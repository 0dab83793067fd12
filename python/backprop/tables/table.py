"""A table: rows and columns that DuckDB holds, whatever they were read from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from backprop.tables import engine

Kind: TypeAlias = Literal["number", "boolean", "date", "time", "text", "other"]

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "INTERVAL",
            "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "BIGNUM")  # fmt: skip
_TEXTS = ("VARCHAR", "ENUM", "UUID", "JSON", "NULL", '"NULL"')  # what has nothing in it could be anything
_BINARIES = ("BLOB", "BIT", "bytes", "bytes_", "bytearray", "memoryview")  # in files, and in frames


@dataclass(frozen=True, slots=True)
class Stored:
    """A column as DuckDB has it: what SQL calls it, and its type."""

    sql: str
    type: str

    @property
    def kind(self) -> Kind:
        """What the type can be without looking at the values.

        Examples
        --------
        >>> Stored("c0", "DECIMAL(10,2)").kind, Stored("c1", "VARCHAR").kind, Stored("c2", "INTEGER[]").kind
        ('number', 'text', 'other')
        """
        base = self.type.partition("(")[0].strip()
        if self.type.endswith("]"):
            return "other"
        if base in _NUMBERS:
            return "number"
        if base == "BOOLEAN":
            return "boolean"
        if base == "DATE" or base.startswith("TIMESTAMP"):
            return "date"
        if base.startswith("TIME"):
            return "time"
        return "text" if base in _TEXTS else "other"

    @property
    def other(self) -> str:
        """What a column of another kind holds, in words; nothing for all that are read.

        Examples
        --------
        >>> Stored("c0", "INTEGER[]").other, Stored("c1", "BLOB").other, Stored("c2", "DATE").other
        ('nested values (INTEGER[])', 'binary values (BLOB), to be decoded first', '')
        """
        if self.kind != "other":
            return ""
        binary = self.type in _BINARIES
        return f"binary values ({self.type}), to be decoded first" if binary else f"nested values ({self.type})"


NO_LIMITS = engine.Limits()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and columns that DuckDB holds.

    Parameters
    ----------
    name
        What messages call it, usually the path of its file.
    columns
        The columns by their names, in order.
    relation
        What SQL calls the table.
    connection
        DuckDB's connection.
    limits
        What reading it may take.
    decimal
        The decimal mark that its numbers most likely have where the numbers do not tell.
    said
        What is worth telling about how it was read.
    kept
        What has to live as long as the table: temporary folders, arrays.
    """

    name: str
    columns: Mapping[str, Stored]
    relation: str
    connection: Any
    limits: engine.Limits = NO_LIMITS
    decimal: str = "."
    said: tuple[str, ...] = ()
    kept: tuple[Any, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return int(self.row(f"SELECT count(*) FROM {self.relation}")[0])

    def row(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Return the first row that a query gives."""
        found = self.rows(query, parameters)
        return found[0] if found else ()

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows that a query gives."""
        with engine.errors(self.name):
            result: list[tuple[Any, ...]] = engine.run(
                self.connection, query, parameters, progress=self.limits.progress
            )
            return result

    def arrays(self, expressions: Mapping[str, str]) -> dict[str, NDArray[Any]]:
        """Return what SQL expressions are in each row; what is missing is masked."""
        names = list(expressions)
        chosen = ", ".join(f"{expressions[name]} AS v{k}" for k, name in enumerate(names))
        with engine.errors(self.name):
            query = f"SELECT {chosen} FROM {self.relation}"
            found = engine.run(self.connection, query, arrays=True, progress=self.limits.progress)
        return {name: found[f"v{k}"] for k, name in enumerate(names)}

    def column(self, name: str, what: str = "column") -> Stored:
        """Return a column; `what` is how the message calls it when there is none of that name."""
        if name in self.columns:
            return self.columns[name]
        message = f"{self.name}: no {what} {name!r}"
        folded = {column.casefold(): column for column in self.columns}
        if close := difflib.get_close_matches(name.casefold(), folded, n=3):
            message += f" (did you mean {' or '.join(repr(folded[match]) for match in close)}?)"
        message += f"; its columns are {shorten(self.columns)}"
        if all(_is_number(column) for column in self.columns):
            message += "; its first line looks like data: a header row with the names of the columns is needed"
        raise ValueError(message)

    def where(self, condition: str, values: str) -> tuple[int, Any] | None:
        """Return the first row, counted from 1, for which a condition holds, and the value of an expression in it."""
        found = self.row(
            f"SELECT row, value FROM (SELECT row_number() OVER () AS row, {values} AS value, {condition} AS found "
            f"FROM {self.relation}) WHERE found ORDER BY row LIMIT 1"
        )
        return (int(found[0]), found[1]) if found else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def shorten(names: Iterable[object], limit: int = 20) -> str:
    """Return the names in a row, the first few of them where there are many.

    Examples
    --------
    >>> shorten("abc", limit=2)
    "'a', 'b', ... (3 in all)"
    """
    texts = [repr(name) for name in names]
    more = f", ... ({len(texts)} in all)" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
