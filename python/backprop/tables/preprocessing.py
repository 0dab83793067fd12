"""From the cells of a table to numbers and back: encoding columns, holding rows out.

What is learned from a table (medians, means, scales, categories) is learned from the training rows only, kept in frozen
dataclasses and saved beside the network, so that new rows are encoded exactly as the training rows were.

The rules:

- A column is *numeric* when every cell that is not missing is a finite number, otherwise *categorical*.
- Numeric columns are standardised; missing cells count as the median. Categorical columns become one input per
  category; "missing" is a category of its own where the training rows have it; an unknown category is all zeros.
- Columns that say nothing are left out: empty, constant, or text that is different in nearly every row.
- A target is a *classification* when it is text, or when it has at most `MAX_INTEGER_CLASSES` distinct values, all
  whole numbers, in at least twice as many rows; otherwise a *regression*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.tables.csv import Floats, Table, parse_number, parse_numbers, pick, shorten

Task: TypeAlias = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")

MAX_INTEGER_CLASSES = 20
MAX_CATEGORIES = 256
LARGEST = 1e150  # its square is finite
FARTHEST = 1e30  # in standard deviations: beyond it float32 ends

Indices: TypeAlias = NDArray[np.int64]


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
        cells = _labels(table.column(self.name), numeric=all(parse_number(label) is not None for label in self.labels))
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
    values, bad = parse_numbers(table.column(target, "target column"))
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
    return _labels(cells, numeric=all(not cell or parse_number(cell) is not None for cell in cells))


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
    values, bad = parse_numbers(cells)
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
    categories = sorted(set(pick(cells, rows)))
    if len(categories) < 2:
        return "constant in the training rows" if categories[0] else "empty in the training rows"
    if len(categories) > min(MAX_CATEGORIES, max(10, len(rows) / 2)):
        reason = f"text with {len(categories):,} different values in {len(rows):,} rows"
        return reason + (f"; {note}" if (note := almost_numeric(table, name)) else "")
    return CategoricalColumn(name, tuple(categories))


def almost_numeric(table: Table, name: str) -> str | None:
    """Tell which cell makes a column categorical where most of its cells are numbers."""
    cells = table.column(name)
    _, bad = parse_numbers(cells)
    if bad is None or 2 * sum(parse_number(cell) is not None for cell in cells) <= len(cells):
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
    numeric = all(parse_number(label) is not None for label in distinct)
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
        value = parse_number(cell)
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
