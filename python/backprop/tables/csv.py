"""From a CSV file to its cells, in little more memory than the file has bytes.

The delimiter is found, quoted cells are unpacked, and what is not a table is a ValueError that tells the line. A cell
is *missing* when it is empty or one of NA, N/A, NaN, null and ``?``, in capitals or not.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from os import PathLike, fspath
from typing import BinaryIO, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Floats: TypeAlias = NDArray[np.float64]

DELIMITERS = (",", ";", "\t", "|")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
# What is parsed at once is to fit into a few megabytes, however large the file is:
MAX_COLUMNS = 2**15
MAX_ROW = 2**19  # characters of a row
SNIFFED = 2**17  # characters in which the delimiter is found
UNPACKED = 2**14  # bytes of a column that are text at once


class _Streamed(Sequence[T]):
    """What is read from its first item to its last: a single one is found by reading those before it."""

    __slots__ = ()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"


class Cells(_Streamed[str]):
    """Texts without NUL, packed: one takes its bytes in UTF-8 and one more, where a `str` takes 50."""

    __slots__ = ("_packed",)

    def __init__(self, cells: Iterable[str] = ()) -> None:
        self._packed = bytearray()
        for cell in cells:
            self.append(cell)

    def append(self, cell: str) -> None:
        """Add a text at the end."""
        self._packed += cell.encode() + b"\0"

    def __len__(self) -> int:
        return self._packed.count(b"\0")

    def __iter__(self) -> Iterator[str]:
        start = 0
        while start < len(self._packed):
            end = self._packed.find(b"\0", start + UNPACKED)
            if end == -1:
                end = len(self._packed) - 1
            yield from self._packed[start:end].decode().split("\0")
            start = end + 1


class LineNumbers(_Streamed[int]):
    """Whole numbers as the steps from one to the next, packed: a step of 1 takes one byte."""

    __slots__ = ("_last", "_steps")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._steps, self._last = Cells(), 0
        for number in numbers:
            self.append(number)

    def append(self, number: int) -> None:
        """Add a number at the end."""
        step = number - self._last
        self._steps.append("" if step == 1 else str(step))
        self._last = number

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[int]:
        return accumulate(int(step or 1) for step in self._steps)


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a CSV file, as text without surrounding blanks; missing cells are ``""``.

    Parameters
    ----------
    name
        What messages call the table, usually the path of its file.
    columns
        Column name to cells, in the order of the file; all of the same length, which is at least 1.
    lines
        For each row the line of the file on which it starts.
    """

    name: str
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str, what: str = "column") -> Sequence[str]:
        """Return the cells of a column; `what` is how the message calls it when there is none of that name."""
        if name in self.columns:
            return self.columns[name]
        message = f"{self.name}: no {what} {name!r}"
        folded = {column.casefold(): column for column in self.columns}
        if close := difflib.get_close_matches(name.casefold(), folded, n=3):
            message += f" (did you mean {' or '.join(repr(folded[match]) for match in close)}?)"
        message += f"; its columns are {shorten(self.columns)}"
        if all(parse_number(column) is not None for column in self.columns):
            message += "; its first line looks like data: a header row with the names of the columns is needed"
        raise ValueError(message)

    def take(self, rows: Iterable[int]) -> Table:
        """Return a table of some of the rows."""
        rows = list(rows)
        columns = {name: Cells(pick(cells, rows)) for name, cells in self.columns.items()}
        return Table(self.name, columns, LineNumbers(pick(self.lines, rows)))

    def numbers(self, name: str) -> Floats:
        """Return a column as numbers, NaN where missing; a cell that is neither is a ValueError that tells its line."""
        cells = self.column(name)
        values, bad = parse_numbers(cells)
        if bad is not None:
            raise ValueError(
                f"{self.name}, line {self.lines[bad]}: column {name!r} needs finite numbers, got {cells[bad]!r}"
            )
        return values


def read_csv(path: str | PathLike[str], name: str | None = None) -> Table:
    r"""Read a CSV file that starts with a header row.

    The text is UTF-8, with or without a byte order mark; the delimiter is found among ``, ; tab |``; blank lines are
    skipped. `name` is what messages call the file, by default its path.

    Raises
    ------
    ValueError
        Where the file is not such a table; the message names the file and the line.
    OSError
        Where it cannot be read.
    """
    with open(path, "rb") as file:
        return _read(file, fspath(path) if name is None else name)


def parse_csv(raw: bytes, name: str) -> Table:
    """Read a table from the bytes of a CSV file; see `read_csv`."""
    return _read(io.BytesIO(raw), name)


def _read(file: BinaryIO, name: str) -> Table:
    # Bytes that are no UTF-8 become lone surrogates, for `_check_text` to say where they are.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        return _table(iter(lambda: text.readline(MAX_ROW + 1), ""), name)


def _table(lines: Iterator[str], name: str) -> Table:
    delimiter, lines = _sniff(lines)
    records = _records(lines, delimiter, name)
    line, header = next(records, (0, []))
    if not header:
        raise ValueError(f"{name}: empty file; a header row with the names of the columns is needed")
    _check_header(header, f"{name}, line {line}")
    columns = {column: Cells() for column in header}
    starts = LineNumbers()
    for line, record in records:
        if len(record) != len(columns):
            if record == [""]:  # blanks only
                continue
            raise ValueError(
                f"{name}, line {line}: {_count(len(record), 'value')}, "
                f"but the header has {_count(len(columns), 'column')}"
            )
        for cells, cell in zip(columns.values(), record, strict=True):
            cells.append("" if cell.casefold() in MISSING else cell)
        starts.append(line)
        record.clear()  # gives the memory to the next one
    if not starts:
        raise ValueError(f"{name}: no rows below the header")
    return Table(name, columns, starts)


def _records(lines: Iterator[str], delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not a blank line, with the line on which it starts."""
    n_characters = n_delimiters = 0

    def checked() -> Iterator[str]:
        nonlocal n_characters, n_delimiters
        for number, text in enumerate(lines, 1):
            _check_text(text, f"{name}, line {number}")
            n_characters += len(text)
            n_delimiters += text.count(delimiter)
            if n_characters > MAX_ROW:
                raise ValueError(f"{name}, line {line}: a row needs at most {MAX_ROW:,} characters")
            if n_delimiters >= MAX_COLUMNS:
                raise ValueError(f"{name}, line {line}: a row needs at most {MAX_COLUMNS:,} values")
            yield text

    # strict: a quote that is never closed would otherwise swallow the rest of the file into one cell, in silence.
    reader = csv.reader(checked(), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    while True:
        n_characters = n_delimiters = 0
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{name}, line {line}: {error}") from None
        if record is None:
            return
        if record:
            for k, cell in enumerate(record):  # in place: a row may be long
                record[k] = cell.strip()
            yield line, record
        line = reader.line_num + 1


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        raise ValueError(f"{where}: not UTF-8 text (byte 0x{byte:02x}); save it as UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{where}: NUL character; a text file is needed")


def _sniff(lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    """Return the delimiter that splits the first lines into the most columns, the same number in each; and all lines.

    A broken file should still be read with the delimiter of its header, for the message to make sense.
    """
    head = deque(_first(lines, SNIFFED))

    def fitness(delimiter: str) -> tuple[bool, int]:
        widths: list[int] = []
        try:
            widths.extend(len(record) for _, record in islice(_records(iter(head), delimiter, ""), 20))
            agree = len(set(widths)) == 1 and widths[0] > 1
        except ValueError:
            agree = False
        return agree, widths[0] if widths else 0

    delimiter = max(DELIMITERS, key=fitness)  # the first of equals

    def again() -> Iterator[str]:
        while head:
            yield head.popleft()
        yield from lines

    return delimiter, again()


def _first(lines: Iterator[str], n_characters: int) -> Iterator[str]:
    """Yield lines until they have so many characters."""
    while n_characters > 0 and (line := next(lines, "")):
        yield line
        n_characters -= len(line)


def _check_header(header: Sequence[str], where: str) -> None:
    if "" in header:
        index = header.index("")
        hint = " (pandas leaves out an index column with to_csv(..., index=False))" if index == 0 else ""
        raise ValueError(f"{where}: column {index + 1} of the header has no name{hint}")
    if len(set(header)) < len(header):
        name, times = Counter(header).most_common(1)[0]
        raise ValueError(f"{where}: column name {name!r} stands in the header {times} times; names must differ")


def pick(items: Iterable[T], rows: Iterable[int]) -> list[T]:
    """Return the items of some rows."""
    items = list(items)
    return [items[row] for row in rows]


def shorten(names: Iterable[object], limit: int = 20) -> str:
    """Return the names in a row, the first few of them where there are many."""
    texts = [repr(name) for name in names]
    more = f", ... ({len(texts)} in all)" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def parse_number(cell: str) -> float | None:
    """Return the finite number that a cell holds, None for anything else."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def parse_numbers(cells: Sequence[str]) -> tuple[Floats, int | None]:
    """Return the cells as numbers, NaN where missing, and the first row that is neither, if any."""
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if cell:
            value = parse_number(cell)
            if value is None:
                return values, row
            values[row] = value
    return values, None
