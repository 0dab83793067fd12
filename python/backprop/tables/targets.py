"""What is predicted: the label of a class, or a quantity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.tables import encoders, values
from backprop.tables.columns import Column, almost_numeric
from backprop.tables.reading import MISSING, UNKNOWN, Values, read
from backprop.tables.table import Table, shorten
from backprop.tables.values import Evidence

Task: TypeAlias = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")
LabelKind: TypeAlias = Literal["text", "number", "boolean"]
LABEL_KINDS: tuple[LabelKind, ...] = ("text", "number", "boolean")

MAX_INTEGER_CLASSES = 20
FAR_MEAN = 1000  # standard deviations: what is farther from 0 loses three of the seven digits of a float32
SMALL_UNIT, LARGE_UNIT = 1e-30, 1e30  # standard deviations: what is outside comes near the ends of float32


@dataclass(frozen=True, slots=True)
class Labels:
    """The target of a classification: class k of the network is ``labels[k]``.

    Parameters
    ----------
    name
        The column.
    labels
        At least two texts that differ.
    label_kind
        "text"; "number", where 1 and 1.0 are one label; "boolean", where all spellings of yes and no are.
    positive_label
        The one that is looked for, where there are two: yes, the larger number, the rarer text.
    """

    kind: ClassVar[str] = "labels"
    name: str
    labels: tuple[str, ...]
    label_kind: str = "text"
    positive_label: str = ""

    @property
    def positive(self) -> int:
        """The class that precision, recall and a threshold are about, where there are two."""
        return self.labels.index(self.positive_label) if self.positive_label in self.labels else len(self.labels) - 1

    @property
    def task(self) -> Task:
        """``"classification"``."""
        return "classification"

    @property
    def n_outputs(self) -> int:
        """How many outputs the network needs."""
        return len(self.labels)

    @property
    def column(self) -> Column:
        """How to read the column."""
        meaning: Any = "boolean" if self.label_kind == "boolean" else "category"
        return Column(self.name, meaning, numbers=self.label_kind == "number")

    def encode(self, found: Values) -> NDArray[np.int64]:
        """Return the class of each row, (n,): `MISSING` without a label, `UNKNOWN` for one that no training row has."""
        if self.label_kind == "boolean":
            codes: NDArray[np.int64] = np.nan_to_num(found.array, nan=MISSING).astype(np.int64)
            return codes
        classes = {label: k for k, label in enumerate(self.labels)}
        of_word = np.array([*(classes.get(word, UNKNOWN) for word in found.words), UNKNOWN, MISSING], np.int64)
        return of_word[found.array]

    def decoded(self, classes: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels of classes: numbers where all labels are, booleans for false and true, else texts."""
        if self.labels == ("false", "true") and self.label_kind == "boolean":
            truths: NDArray[Any] = classes == 1
            return truths
        if self.label_kind == "number" or self.labels == ("0", "1"):
            return self._numbers()[classes]
        return np.array(self.labels)[classes]

    def _numbers(self) -> NDArray[Any]:
        """Return the labels as numbers, texts where no type of NumPy has all of them."""
        floats = [float(label) for label in self.labels]
        exact = [Decimal(label) for label in self.labels]
        whole = [number == number.to_integral_value() for number in exact]
        if all(whole):
            for dtype in (np.int64, np.uint64):
                if np.iinfo(dtype).min <= min(exact) and max(exact) <= np.iinfo(dtype).max:
                    return np.array([int(number) for number in exact], dtype)
        # A fraction is the float next to it; a whole number has to be itself, so that none is infinite.
        same = all(number == near for number, near, is_whole in zip(exact, floats, whole, strict=True) if is_whole)
        return np.array(floats if same and len(set(floats)) == len(floats) else self.labels)


@dataclass(frozen=True, slots=True)
class Quantity:
    """The target of a regression: the network is trained on ``(value - center) / scale``."""

    kind: ClassVar[str] = "quantity"
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

    @property
    def column(self) -> Column:
        """How to read the column."""
        return Column(self.name, "numeric")

    def encode(self, found: Values) -> NDArray[np.float64]:
        """Return the scaled target of each row, (n, 1); NaN where it is missing."""
        scaled: NDArray[np.float64] = (found.array.astype(np.float64) - self.center) / self.scale
        return scaled[:, None]

    def dtype(self, computed: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type of predictions, for a network that computes in `computed`.

        It has as many digits as the network's arithmetic, or float64 where a mean far from 0 would take too many, or
        where float32 does not reach.
        """
        fits = abs(self.center) <= FAR_MEAN * self.scale and SMALL_UNIT <= self.scale <= LARGE_UNIT
        return computed if fits else np.dtype(np.float64)

    def decoded(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return the network's outputs, (n, 1), in the units of the target, (n,)."""
        numbers: NDArray[np.float64] = outputs[:, 0].astype(np.float64) * self.scale + self.center
        return numbers


Target: TypeAlias = Labels | Quantity
TARGETS: dict[str, type[Target]] = {"labels": Labels, "quantity": Quantity}


def infer_task(column: Column, seen: Evidence) -> Task:
    """Return "classification" for words, booleans and a few distinct whole numbers, else "regression"."""
    if column.meaning != "numeric" and not (column.meaning in ("identifier", "code") and _is_number(column, seen)):
        return "classification"
    few = seen.distinct <= min(MAX_INTEGER_CLASSES, seen.there / 2)
    return "classification" if few and seen.whole else "regression"


def _is_number(column: Column, seen: Evidence) -> bool:
    return seen.all(seen.numbers[column.decimal]) and not seen.zeros


def target_column(column: Column, task: Task, seen: Evidence, table_name: str) -> Column:
    """Return how to read the column of a target."""
    name = column.name
    if column.meaning == "date":
        raise ValueError(f"{table_name}: target {name!r} holds dates; it needs labels or numbers")
    if task == "regression":
        return Column(name, "numeric", decimal=column.decimal, plain=column.plain)
    if column.meaning == "boolean":
        return Column(name, "boolean", decimal=column.decimal)
    return Column(name, "category", decimal=column.decimal, numbers=_is_number(column, seen))


def fitted_labels(table: Table, found: Values, seen: Evidence) -> Labels:
    """Return the labels of a target, from all rows of the table."""
    name, column = found.column.name, found.column
    if column.meaning == "boolean":
        return Labels(name, _spellings(table, name), "boolean")
    labels, n = found.words, int((found.array != MISSING).sum())
    if len(labels) > max(10, n / 2):
        note = almost_numeric(table, column, seen)
        raise ValueError(
            f"{table.name}: target {name!r} has {len(labels):,} classes in {n:,} rows, too many to learn"
            + (f"; it is {note}" if note else "; for a regression it needs numbers and the task 'regression'")
        )
    if len(labels) < 2:
        raise ValueError(f"{table.name}: target {name!r} is {labels[0]!r} in every row; it needs at least two classes")
    if column.numbers:
        return Labels(name, tuple(sorted(labels, key=Decimal)), "number")
    return Labels(name, tuple(sorted(labels)), "text", labels[-1])  # the rarest comes last


def _spellings(table: Table, name: str) -> tuple[str, str]:
    """Return how the column most often writes no and yes."""
    stored = table.columns[name]
    if stored.kind != "text":
        return ("0", "1") if stored.kind == "number" else ("false", "true")
    said, word = values.boolean(stored), values.trimmed(stored.sql)
    found = table.rows(
        f"SELECT {said} AS said, {word} AS word, count(*) FROM {table.relation} WHERE {said} IS NOT NULL "
        "GROUP BY said, word ORDER BY count(*) DESC, word"
    )
    no = next(word for said, word, _ in found if not said)
    yes = next(word for said, word, _ in found if said)
    return no, yes


def fitted_quantity(table: Table, found: Values, rows: NDArray[np.int64]) -> Quantity:
    """Return the scale of a target, from the training rows."""
    name, known = found.column.name, np.asarray(found.array[rows], np.float64)
    if known.min() == known.max():
        raise ValueError(f"{table.name}: target {name!r} is {known[0]:g} in every training row; it needs to vary")
    encoders.check_size(known, f"{table.name}: target {name!r}")
    return Quantity(name, *encoders.mean_and_scale(known))


def target_from_json(data: object) -> Target:
    """Build a target from what `encoders.to_json` gave; anything else is a ValueError or a TypeError."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind not in TARGETS:
        raise ValueError(f"target: needs a dict of one of the kinds {', '.join(TARGETS)}; got {data!r:.200}")
    found = encoders.from_json(TARGETS[str(kind)], data, "target")
    if isinstance(found, Labels):
        encoders.texts(list(found.labels), f"labels of target {found.name!r}", at_least=2)
        check.choice(f"label_kind of target {found.name!r}", found.label_kind, LABEL_KINDS)
    target: Target = found
    return target


@dataclass(frozen=True, slots=True)
class Truth:
    """What a table says about a target.

    Parameters
    ----------
    encoded
        As `Labels.encode` or `Quantity.encode` gives it.
    known
        The rows that can be scored, (n,).
    unknown
        Labels that no training row has: how often they occur.
    first_unknown
        Row, counted from 1, and label.
    """

    encoded: NDArray[Any]
    known: NDArray[np.bool_]
    unknown: Counter[str]
    first_unknown: tuple[int, str] | None


def truth_of(table: Table, target: Target, decimal: str | None = None) -> Truth:
    """Return what a table says about a target; ValueError where a cell is no number or truth value."""
    column = target.column
    table.column(target.name, "target column")
    seen = values.evidence(table, [target.name])[target.name]
    marks, _ = values.decimal_marks({target.name: seen}, decimal or table.decimal)
    column = Column(column.name, column.meaning, decimal=marks[target.name], numbers=column.numbers)
    if isinstance(target, Quantity):
        found = read(table, [column])[target.name]
        return Truth(target.encode(found), ~found.missing, Counter(), None)
    if target.label_kind == "boolean" and not seen.all(seen.booleans):
        return _odd_booleans(table, target)
    known: Sequence[str] | None = target.labels if column.is_words else None
    found = read(table, [column], {target.name: known} if known else None)[target.name]
    encoded = target.encode(found)
    return Truth(encoded, encoded >= 0, found.unknown, found.first_unknown)


def _odd_booleans(table: Table, target: Labels) -> Truth:
    """Return the truth of a column some of whose cells are neither yes nor no."""
    stored = table.columns[target.name]
    found = read(table, [Column(target.name, "category")])[target.name]
    said = table.arrays({"said": f"CAST({values.boolean(stored)} AS DOUBLE)"})["said"]
    codes = np.nan_to_num(values.as_floats(said), nan=UNKNOWN).astype(np.int64)
    codes[found.missing] = MISSING
    strangers = np.flatnonzero(codes == UNKNOWN)
    words = [found.words[found.array[row]] for row in strangers]
    first = (int(strangers[0]) + 1, words[0]) if words else None
    return Truth(codes, codes >= 0, Counter(words), first)


def said_unknown(name: str, unknown: Counter[str], first: tuple[int, str] | None) -> str:
    """Return a sentence about words that no training row has.

    Examples
    --------
    >>> said_unknown("kind", Counter({"qux": 1}), (3, "qux"))
    "kind: 1 row with a label that no training row had: 'qux' (first in row 3)"
    """
    total = unknown.total()
    where = f" (first in row {first[0]:,})" if first else ""
    names = shorten((word for word, _ in unknown.most_common()), 5)
    return f"{name}: {total:,} row{'' if total == 1 else 's'} with a label that no training row had: {names}{where}"
