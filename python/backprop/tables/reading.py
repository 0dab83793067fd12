"""From a table in DuckDB to arrays in memory, column by column: numbers, truth values, seconds, words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backprop.tables import values
from backprop.tables.columns import Column
from backprop.tables.table import Table

MISSING, UNKNOWN = -1, -2
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a column.

    Parameters
    ----------
    column
        Which column, and what it means.
    array
        (n,): float64, NaN where missing (booleans 0 and 1, dates seconds since 1970); or, for words, their indices in
        `words` as int32, `MISSING` or `UNKNOWN`.
    words
        The words.
    unknown
        Words that are not among `words`: how often they occur.
    first_unknown
        Row, counted from 1, and word.
    """

    column: Column
    array: NDArray[np.float64] | NDArray[np.int32]
    words: tuple[str, ...] = ()
    unknown: Counter[str] = field(default_factory=Counter)
    first_unknown: tuple[int, str] | None = None

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where the column says nothing, (n,)."""
        gone: NDArray[np.bool_] = self.array == MISSING if self.column.is_words else np.isnan(self.array)
        return gone


def read(
    table: Table, columns: Sequence[Column], words: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Values]:
    """Return the values of columns.

    Parameters
    ----------
    table
        The table.
    columns
        Which columns, and how to read them.
    words
        For columns of words, those that are known; by default all that the table has.

    Raises
    ------
    ValueError
        If a cell is not what its column needs; the message names the row.

    Examples
    --------
    >>> from backprop.tables.sources import open_table
    >>> from backprop.tables.columns import decided
    >>> table = open_table({"price": ["1.5", "NA", "3 %"], "city": ["Rome", "Oslo", "Rome"]})
    >>> found = read(table, list(decided(table, ["price", "city"]).values()))
    >>> found["price"].array.tolist(), found["city"].array.tolist(), found["city"].words
    ([1.5, nan, 0.03], [0, 1, 0], ('Rome', 'Oslo'))
    """
    found: dict[str, Values] = {}
    at_once = max(1, _CELLS_AT_ONCE // max(len(table), 1))
    for first in range(0, len(columns), at_once):
        some = columns[first : first + at_once]
        arrays = table.arrays({column.name: _expression(table, column) for column in some})
        for column in some:
            array = arrays.pop(column.name)
            if column.is_words:
                known = (words or {}).get(column.name)
                found[column.name] = _words(column, array, known)
            else:
                found[column.name] = Values(column, values.as_floats(array))
    for column in columns:
        if not column.is_words:
            _check(table, found[column.name])
    return found


def _expression(table: Table, column: Column) -> str:
    stored = table.column(column.name)
    if stored.other:
        needs = {"numeric": "numbers", "boolean": "yes and no", "date": "dates"}.get(column.meaning, "texts or numbers")
        raise ValueError(f"{table.name}: column {column.name!r} holds {stored.other}; it needs {needs}")
    if column.meaning == "boolean":
        return f"CAST({values.boolean(stored)} AS DOUBLE)"
    if column.meaning == "date":
        return f"epoch({values.instant(stored, column.written)})"
    if column.meaning == "numeric":
        return values.number(stored, column.decimal, plain=column.plain)
    return values.text_of(stored, numeric=column.numbers, decimal=column.decimal)


def _words(column: Column, cells: NDArray[np.object_], known: Sequence[str] | None) -> Values:
    texts, gone = values.parts_of(cells)
    if known is None:
        counts = Counter(text for text, missing in zip(texts, gone, strict=True) if not missing)
        known = sorted(counts, key=lambda word: (-counts[word], word))
    index = {word: k for k, word in enumerate(known)}
    codes = np.fromiter((index.get(text, UNKNOWN) for text in texts), np.int32, len(texts))
    codes[gone] = MISSING
    strangers = np.flatnonzero(codes == UNKNOWN)
    unknown = Counter(texts[row] for row in strangers)
    first = (int(strangers[0]) + 1, texts[strangers[0]]) if len(strangers) else None
    return Values(column, codes, tuple(known), unknown, first)


def _check(table: Table, found: Values) -> None:
    """Raise where a cell says something, but not what the column needs."""
    if not found.missing.any():
        return
    column, stored = found.column, table.columns[found.column.name]
    gone = values.is_missing(stored)
    if column.strays:
        gone = f"({gone} OR {values.one_of(f'lower({values.trimmed(stored.sql)})', column.strays)})"
    wrong = table.where(f"NOT {gone} AND ({_expression(table, column)}) IS NULL", f"CAST({stored.sql} AS VARCHAR)")
    if wrong is not None:
        needs = {"numeric": "finite numbers", "boolean": "yes or no", "date": f"dates ({column.written})"}
        raise ValueError(
            f"{table.name}, row {wrong[0]:,}: column {column.name!r} needs {needs[column.meaning]}, got {wrong[1]!r}"
        )
