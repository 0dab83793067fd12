"""From a CSV file to numbers and back: reading, encoding columns, holding rows out.

What is learned from a table (medians, means, scales, categories) is learned from the training rows only, kept in frozen
dataclasses and saved beside the network, so that new rows are encoded exactly as the training rows were.

The rules:

- A cell is *missing* when it is empty or one of NA, N/A, NaN, null and ``?``, in capitals or not.
- A column is *numeric* when every cell that is not missing is a finite number, otherwise *categorical*.
- Numeric columns are standardised; missing cells count as the median. Categorical columns become one input per
  category; "missing" is a category of its own where the training rows have it; an unknown category is all zeros.
- Columns that say nothing are left out: empty, constant, or text that is different in nearly every row.
- A target is a *classification* when it is text, or when it has at most `MAX_INTEGER_CLASSES` distinct values, all
  whole numbers, in at least twice as many rows; otherwise a *regression*.
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
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from backprop import _validation as check

T = TypeVar("T")
Task: TypeAlias = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")

DELIMITERS = (",", ";", "\t", "|")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
MAX_INTEGER_CLASSES = 20
MAX_CATEGORIES = 256
# What is parsed at once is to fit into a few megabytes, however large the file is:
MAX_COLUMNS = 2**15
MAX_ROW = 2**19  # characters of a row
SNIFFED = 2**17  # characters in which the delimiter is found
UNPACKED = 2**14  # bytes of a column that are text at once
LARGEST = 1e150  # its square is finite
FARTHEST = 1e30  # in standard deviations: beyond it float32 ends

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]


# Reading


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
        if all(_number(column) is not None for column in self.columns):
            message += "; its first line looks like data: a header row with the names of the columns is needed"
        raise ValueError(message)

    def take(self, rows: Iterable[int]) -> Table:
        """Return a table of some of the rows."""
        rows = list(rows)
        columns = {name: Cells(_at(cells, rows)) for name, cells in self.columns.items()}
        return Table(self.name, columns, LineNumbers(_at(self.lines, rows)))

    def numbers(self, name: str) -> Floats:
        """Return a column as numbers, NaN where missing; a cell that is neither is a ValueError that tells its line."""
        cells = self.column(name)
        values, bad = _numbers(cells)
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


def _at(items: Iterable[T], rows: Iterable[int]) -> list[T]:
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


def _number(cell: str) -> float | None:
    """Return the finite number that a cell holds, None for anything else."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def _numbers(cells: Sequence[str]) -> tuple[Floats, int | None]:
    """Return the cells as numbers, NaN where missing, and the first row that is neither, if any."""
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if cell:
            value = _number(cell)
            if value is None:
                return values, row
            values[row] = value
    return values, None


# Encoding


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """One input: ``(value - mean) / scale``, with the median of the training rows where the cell is missing."""

    name: str
    median: float
    mean: float
    scale: float

    @property
    def n_inputs(self) -> int:
        """How many inputs of the network the column fills."""
        return 1

    def to_json(self) -> dict[str, Any]:
        """Return the column as plain values."""
        return {"kind": "numeric", "name": self.name, "median": self.median, "mean": self.mean, "scale": self.scale}


@dataclass(frozen=True, slots=True)
class CategoricalColumn:
    """One input per category, 1 for the category of the cell; ``""`` is the category of missing cells."""

    name: str
    categories: tuple[str, ...]

    @property
    def n_inputs(self) -> int:
        """How many inputs of the network the column fills."""
        return len(self.categories)

    def to_json(self) -> dict[str, Any]:
        """Return the column as plain values."""
        return {"kind": "categorical", "name": self.name, "categories": list(self.categories)}


Column: TypeAlias = NumericColumn | CategoricalColumn


@dataclass(frozen=True, slots=True)
class Labels:
    """The target of a classification: class k of the network is ``labels[k]``."""

    name: str
    labels: tuple[str, ...]

    @property
    def task(self) -> Task:
        """``"classification"``."""
        return "classification"

    @property
    def n_outputs(self) -> int:
        """How many outputs the network needs."""
        return len(self.labels)

    def encode(self, table: Table) -> Indices:
        """Return the class of each row, (n,); -1 for a missing or an unknown label."""
        classes = {label: k for k, label in enumerate(self.labels)}
        cells = _labels(table.column(self.name), numeric=all(_number(label) is not None for label in self.labels))
        return np.array([classes.get(cell, -1) for cell in cells], np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return the target as plain values."""
        return {"task": self.task, "name": self.name, "labels": list(self.labels)}


@dataclass(frozen=True, slots=True)
class Quantity:
    """The target of a regression: the network is trained on ``(value - center) / scale``."""

    name: str
    center: float
    scale: float

    @property
    def task(self) -> Task:
        """``"regression"``."""
        return "regression"

    @property
    def n_outputs(self) -> int:
        """How many outputs the network needs."""
        return 1

    def encode(self, table: Table) -> Floats:
        """Return the scaled target of each row, (n, 1); NaN where it is missing."""
        return ((table.numbers(self.name) - self.center) / self.scale)[:, None]

    def decode(self, outputs: NDArray[Any]) -> Floats:
        """Return the network's outputs, (n, 1), in the units of the target, (n,)."""
        values: Floats = outputs[:, 0].astype(np.float64) * self.scale + self.center
        return values

    def to_json(self) -> dict[str, Any]:
        """Return the target as plain values."""
        return {"task": self.task, "name": self.name, "center": self.center, "scale": self.scale}


Target: TypeAlias = Labels | Quantity


class Inputs(NamedTuple):
    """A table in numbers, and what in it had to be made up."""

    X: Floats
    """(n, n_inputs)"""
    missing: dict[str, int]
    """column name to number of missing cells, where there are any"""
    unknown: dict[str, Counter[str]]
    """column name to the categories that the training rows did not have, and how often"""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Everything needed to encode new rows as the training rows were.

    Parameters
    ----------
    columns
        The columns that the network sees, in order.
    target
        What it predicts.
    left_out
        Columns that it does not see, with the reason.
    """

    columns: tuple[Column, ...]
    target: Target
    left_out: Mapping[str, str]

    @property
    def n_inputs(self) -> int:
        """How many inputs the network needs."""
        return sum(column.n_inputs for column in self.columns)

    def inputs(self, table: Table) -> Inputs:
        """Encode the rows of a table that has all of `columns`; what else it has is ignored."""
        absent = [column.name for column in self.columns if column.name not in table.columns]
        if len(absent) > 1:
            raise ValueError(
                f"{table.name}: the model needs columns that are not there: {shorten(absent)}; "
                f"the columns there are {shorten(table.columns)}"
            )
        X = np.zeros((len(table), self.n_inputs))
        missing: dict[str, int] = {}
        unknown: dict[str, Counter[str]] = {}
        start = 0
        for column in self.columns:
            cells = table.column(column.name)
            if n_missing := sum(not cell for cell in cells):
                missing[column.name] = n_missing
            if isinstance(column, NumericColumn):
                values = table.numbers(column.name)
                values[np.isnan(values)] = column.median
                with np.errstate(over="ignore"):
                    X[:, start] = (values - column.mean) / column.scale
                far = np.abs(X[:, start]) > FARTHEST
                if far.any():
                    row = int(far.argmax())
                    raise ValueError(
                        f"{table.name}, line {table.lines[row]}: column {column.name!r} needs numbers in the range of "
                        f"the training rows (mean {column.mean:g}, deviation {column.scale:g}), got {cells[row]!r}"
                    )
            else:
                index = {category: start + k for k, category in enumerate(column.categories)}
                for row, cell in enumerate(cells):
                    if cell in index:
                        X[row, index[cell]] = 1
                    elif cell:
                        unknown.setdefault(column.name, Counter())[cell] += 1
            start += column.n_inputs
        return Inputs(X, missing, unknown)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, texts and numbers."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "target": self.target.to_json(),
            "left_out": dict(self.left_out),
        }

    @classmethod
    def from_json(cls, data: object) -> Preprocessing:
        """Build it from what `to_json` gave; anything else is a ValueError or a TypeError."""
        columns, target, left_out = _fields(data, "preprocessing", "columns", "target", "left_out")
        if not isinstance(columns, list) or not columns:
            raise ValueError(f"preprocessing: 'columns' needs a list that is not empty, got {columns!r:.80}")
        if not isinstance(left_out, dict) or not all(isinstance(reason, str) for reason in left_out.values()):
            raise ValueError(f"preprocessing: 'left_out' needs texts under names, got {left_out!r:.80}")
        result = cls(tuple(_column_from_json(column) for column in columns), _target_from_json(target), left_out)
        _unique("names of columns", [*(column.name for column in result.columns), result.target.name, *left_out])
        return result


def infer_task(table: Table, target: str) -> Task:
    """Return "classification" for text and for a few distinct whole numbers, else "regression"."""
    values, bad = _numbers(table.column(target, "target column"))
    if bad is not None:
        return "classification"
    values = values[~np.isnan(values)]
    distinct = np.unique(values)
    few = len(distinct) <= min(MAX_INTEGER_CLASSES, len(values) / 2)
    return "classification" if few and bool(np.all(distinct == np.rint(distinct))) else "regression"


def split_rows(n: int, test_size: float, seed: int, groups: Sequence[str] | None = None) -> tuple[Indices, Indices]:
    """Draw rows to hold out; return (training rows, held-out rows), each ascending.

    With `groups`, one per row, the same share of each group is held out, and at least one row of each is not.
    """
    order = np.random.default_rng(seed).permutation(n)
    held_out = np.zeros(n, bool)
    if groups is None:
        held_out[order[: min(round(n * test_size), n - 1)]] = True
    else:
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        for k in range(group.max() + 1):
            members = order[group[order] == k]
            held_out[members[: min(round(len(members) * test_size), len(members) - 1)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def class_labels(table: Table, target: str) -> list[str]:
    """Return the label of each row; whole numbers are written without a decimal point, however the file has them."""
    cells = table.column(target, "target column")
    return _labels(cells, numeric=all(not cell or _number(cell) is not None for cell in cells))


def fit_preprocessing(
    table: Table, target: str, task: Task, train: Indices | None = None, ignore: Sequence[str] = ()
) -> Preprocessing:
    """Learn from the training rows how to encode a table.

    Parameters
    ----------
    table
        Has no row whose target is missing. Of which kind a column is and which classes there are, its whole file
        tells; everything else is learned from the rows `train` alone.
    target
        The column to predict.
    task
        "classification" or "regression"; see `infer_task`.
    train
        Indices of the training rows, by default all.
    ignore
        Columns that are not to be used.
    """
    for name in ignore:
        table.column(name, "column to ignore")
        if name == target:
            raise ValueError(f"ignore: {name!r} is the target")
    rows = range(len(table)) if train is None else train.tolist()
    fitted_target = _fit_labels(table, target) if task == "classification" else _fit_quantity(table, target, rows)
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    for name in table.columns:
        if name == target:
            continue
        found = "ignored on request" if name in ignore else _fit_column(table, name, rows)
        if isinstance(found, str):
            left_out[name] = found
        else:
            columns.append(found)
    if not columns:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in islice(left_out.items(), 5))
        raise ValueError(
            f"{table.name}: no column to learn from beside the target {target!r}" + (reasons and f" ({reasons})")
        )
    return Preprocessing(tuple(columns), fitted_target, left_out)


def _fit_column(table: Table, name: str, rows: Sequence[int]) -> Column | str:
    """Return the encoding of a column, or why it is left out."""
    cells = table.column(name)
    values, bad = _numbers(cells)
    if bad is None:
        values = values[list(rows)]
        known = values[~np.isnan(values)]
        if not known.size:
            return "empty in the training rows"
        if known.min() == known.max():
            return "constant in the training rows"
        _check_size(known, f"{table.name}: column {name!r}")
        median = float(np.median(known))
        mean, scale = _mean_and_scale(np.where(np.isnan(values), median, values))
        return NumericColumn(name, median, mean, scale)
    categories = sorted(set(_at(cells, rows)))
    if len(categories) < 2:
        return "constant in the training rows" if categories[0] else "empty in the training rows"
    if len(categories) > min(MAX_CATEGORIES, max(10, len(rows) / 2)):
        reason = f"text with {len(categories):,} different values in {len(rows):,} rows"
        return reason + (f"; {note}" if (note := almost_numeric(table, name)) else "")
    return CategoricalColumn(name, tuple(categories))


def almost_numeric(table: Table, name: str) -> str | None:
    """Tell which cell makes a column categorical where most of its cells are numbers."""
    cells = table.column(name)
    _, bad = _numbers(cells)
    if bad is None or 2 * sum(_number(cell) is not None for cell in cells) <= len(cells):
        return None
    return f"not numeric because of {cells[bad]!r} on line {table.lines[bad]}"


def _fit_labels(table: Table, target: str) -> Labels:
    labels = class_labels(table, target)
    distinct = set(labels)
    if len(distinct) > max(10, len(labels) / 2):
        note = almost_numeric(table, target)
        raise ValueError(
            f"{table.name}: target {target!r} has {len(distinct):,} classes in {len(labels):,} rows, too many to learn"
            + (f"; it is {note}" if note else "; for a regression it needs numbers and the task 'regression'")
        )
    if len(distinct) < 2:
        raise ValueError(
            f"{table.name}: target {target!r} is {labels[0]!r} in every row; it needs at least two classes"
        )
    numeric = all(_number(label) is not None for label in distinct)
    return Labels(target, tuple(sorted(distinct, key=float if numeric else str)))


def _fit_quantity(table: Table, target: str, rows: Sequence[int]) -> Quantity:
    values = table.numbers(target)[list(rows)]
    if values.min() == values.max():
        raise ValueError(f"{table.name}: target {target!r} is {values[0]:g} in every training row; it needs to vary")
    _check_size(values, f"{table.name}: target {target!r}")
    return Quantity(target, *_mean_and_scale(values))


def _check_size(values: Floats, what: str) -> None:
    if np.abs(values).max() > LARGEST:
        raise ValueError(f"{what}: needs numbers up to {LARGEST:g}, got {values[np.abs(values).argmax()]:g}")


def _mean_and_scale(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation of values that are not all equal."""
    mean = values.mean()
    deviations = values - mean
    # In units of the largest deviation, for squares of tiny numbers vanish.
    largest = np.abs(deviations).max()
    scale = largest * np.sqrt(np.mean(np.square(deviations / largest)))
    return float(mean), max(float(scale), float(np.finfo(np.float64).tiny))


def _labels(cells: Sequence[str], *, numeric: bool) -> list[str]:
    """Return the labels, equal for equal numbers where they are `numeric`: 1, 1.0 and 01 are one class."""

    def canonical(cell: str) -> str:
        value = _number(cell)
        return cell if value is None else str(int(value)) if value.is_integer() else repr(value)

    return [canonical(cell) for cell in cells] if numeric else list(cells)


# Reading back what a file holds


def _fields(data: object, what: str, *names: str) -> list[Any]:
    if not isinstance(data, dict) or data.keys() != set(names):
        came = list(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{what}: needs a dict with exactly {', '.join(names)}; got {came!r:.200}")
    return [data[name] for name in names]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what}: needs a text, got {value!r:.80}")
    return value


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(f"{what}: needs a list of at least two texts, got {value!r:.80}")
    return tuple(_unique(what, [_text(item, what) for item in value]))


def _unique(what: str, names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"{what}: need to differ, got {names!r:.200}")
    return names


def _column_from_json(data: object) -> Column:
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind == "categorical":
        _, name, categories = _fields(data, "column", "kind", "name", "categories")
        return CategoricalColumn(_text(name, "name"), _texts(categories, f"categories of column {name!r}"))
    _, name, median, mean, scale = _fields(data, "column", "kind", "name", "median", "mean", "scale")
    if kind != "numeric":
        raise ValueError(f"column {name!r:.80}: kind needs to be 'numeric' or 'categorical', got {kind!r:.80}")
    return NumericColumn(
        _text(name, "name"),
        check.number(f"median of column {name!r}", median),
        check.number(f"mean of column {name!r}", mean),
        check.number(f"scale of column {name!r}", scale, above=0),
    )


def _target_from_json(data: object) -> Target:
    task = data.get("task") if isinstance(data, dict) else None
    if task == "classification":
        _, name, labels = _fields(data, "target", "task", "name", "labels")
        return Labels(_text(name, "name"), _texts(labels, "labels"))
    _, name, center, scale = _fields(data, "target", "task", "name", "center", "scale")
    if task != "regression":
        raise ValueError(f"target: task needs to be one of {', '.join(TASKS)}; got {task!r:.80}")
    return Quantity(_text(name, "name"), check.number("center", center), check.number("scale", scale, above=0))
