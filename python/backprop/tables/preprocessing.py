"""From a table to the numbers of a network: which columns, encoded how, and what in them had to be made up.

What is learned from a table (medians, scales, categories) is learned from the training rows only, kept in frozen
dataclasses and saved beside the network as JSON, so that new rows are encoded exactly as the training rows were.
`columns` decides what a column means, `encoders` what becomes of it, `targets` what is predicted.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backprop.tables import columns as meanings
from backprop.tables import encoders, reading, targets, values
from backprop.tables.columns import Column
from backprop.tables.encoders import CategoryInput, Input
from backprop.tables.reading import UNKNOWN, Values
from backprop.tables.table import Table, shorten
from backprop.tables.targets import Target

MOST_VALUES = 8000  # of the preprocessing in a model file, as JSON
MOST_BYTES = 2**25  # of it, as text


class Inputs(NamedTuple):
    """A table in numbers, and what in it had to be made up."""

    X: NDArray[Any]
    """(n, n_inputs)"""
    missing: dict[str, int]
    """column name to number of missing cells, where there are any"""
    unknown: dict[str, Counter[str]]
    """column name to the categories that no training row had, and how often"""
    notes: tuple[str, ...] = ()
    """what could be read otherwise"""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Everything needed to encode new rows as the training rows were.

    Parameters
    ----------
    columns
        What the columns mean that the network sees, in order.
    inputs
        How each of them is encoded.
    targets
        What is predicted, one by one.
    left_out
        Columns that the network does not see, with the reason.
    ids
        Columns that name the rows, kept beside the predictions.
    """

    columns: tuple[Column, ...]
    inputs: tuple[Input, ...]
    targets: tuple[Target, ...]
    left_out: Mapping[str, str]
    ids: tuple[str, ...] = ()

    @property
    def n_inputs(self) -> int:
        """How many inputs the network needs."""
        return sum(len(each.inputs) for each in self.inputs)

    @property
    def input_names(self) -> list[str]:
        """What each input of the network stands for."""
        return [name for each in self.inputs for name in each.inputs]

    @property
    def slices(self) -> dict[str, slice]:
        """The inputs of each column."""
        found, start = {}, 0
        for each in self.inputs:
            found[each.name] = slice(start, start + len(each.inputs))
            start += len(each.inputs)
        return found

    def encode(self, table: Table, dtype: Any = np.float32) -> Inputs:
        """Encode the rows of a table that has all of `columns`, in any order; what else it has is ignored.

        Raises
        ------
        ValueError
            If a column is not there, or a cell is not what its column needs.
        """
        absent = [column.name for column in self.columns if column.name not in table.columns]
        if len(absent) == 1:
            table.column(absent[0])
        if absent:
            raise ValueError(
                f"{table.name}: the model needs columns that are not there: {shorten(absent)}; "
                f"the columns there are {shorten(table.columns)}"
            )
        read = matched(table, self.columns)
        known = {each.name: each.words for each in self.inputs if isinstance(each, CategoryInput)}
        found = self.encoded(reading.read(table, read, known), len(table), dtype, table.name)
        return found._replace(notes=meanings.notes(read))

    def encoded(self, found: Mapping[str, Values], n_rows: int, dtype: Any, name: str) -> Inputs:
        """Encode the values of all columns."""
        X = np.zeros((n_rows, self.n_inputs), dtype)
        missing: dict[str, int] = {}
        unknown: dict[str, Counter[str]] = {}
        for each, part in zip(self.inputs, self.slices.values(), strict=True):
            column = found[each.name]
            try:
                each.write(column, X[:, part])
            except ValueError as error:
                raise ValueError(f"{name}, {error}") from error
            if n_missing := int(column.missing.sum()):
                missing[each.name] = n_missing
            if column.unknown:
                unknown[each.name] = column.unknown
        return Inputs(X, missing, unknown)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, texts and numbers."""
        return {
            "columns": [encoders.to_json(column, "column") for column in self.columns],
            "inputs": [encoders.to_json(each, each.kind) for each in self.inputs],
            "targets": [encoders.to_json(target, target.kind) for target in self.targets],
            "left_out": dict(self.left_out),
            "ids": list(self.ids),
        }

    def stored(self) -> dict[str, Any] | str:
        """Return what a model file keeps: `to_json`, packed into one text where it has too many values for such a file.

        That is its JSON in UTF-8, compressed by zlib, in base64.
        """
        data = self.to_json()
        text = json.dumps(data, allow_nan=False)
        return base64.b64encode(zlib.compress(text.encode())).decode() if text.count(",") > MOST_VALUES else data

    @classmethod
    def from_json(cls, data: object) -> Preprocessing:
        """Build it from what `to_json` or `stored` gave; anything else is a ValueError or a TypeError."""
        if isinstance(data, str):
            data = _unpacked(data)
        keys = {"columns", "inputs", "targets", "left_out", "ids"}
        if not isinstance(data, dict) or data.keys() != keys:
            came = list(data) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"preprocessing: needs a dict with exactly {', '.join(sorted(keys))}; got {came!r:.200}")
        for key in ("columns", "inputs", "targets"):
            if not isinstance(data[key], list) or not data[key]:
                raise ValueError(f"preprocessing: {key!r} needs a list that is not empty, got {data[key]!r:.80}")
        left_out = data["left_out"]
        if not isinstance(left_out, dict) or not all(isinstance(reason, str) for reason in left_out.values()):
            raise ValueError(f"preprocessing: 'left_out' needs texts under names, got {left_out!r:.80}")
        columns = tuple(_column_from_json(column) for column in data["columns"])
        inputs = tuple(encoders.input_from_json(each) for each in data["inputs"])
        names = [column.name for column in columns]
        if names != [each.name for each in inputs]:
            raise ValueError(f"preprocessing: 'columns' and 'inputs' need the same names, got {names!r:.200}")
        found = tuple(targets.target_from_json(target) for target in data["targets"])
        encoders.unique("names of columns", [*names, *(target.name for target in found)])
        return cls(columns, inputs, found, left_out, encoders.texts(data["ids"], "ids"))


def _unpacked(text: str) -> object:
    """Return what `Preprocessing.stored` packed; ValueError for anything else, or for too much of it."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(base64.b64decode(text, validate=True), MOST_BYTES)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"preprocessing: needs a dict, or one that is packed, got {text!r:.80}") from error
    if unpacking.unconsumed_tail:
        raise ValueError(f"preprocessing: needs at most {MOST_BYTES:,} bytes")
    found: object = json.loads(data)
    return found


def _column_from_json(data: object) -> Column:
    if not isinstance(data, dict):
        raise ValueError(f"column: needs a dict, got {data!r:.80}")
    column: Column = encoders.from_json(Column, {"strays": [], **data, "meaning": data.get("meaning")}, "column")
    if column.meaning not in meanings.MEANINGS:
        raise ValueError(f"column {column.name!r}: needs a meaning of {', '.join(meanings.MEANINGS)}; "
                         f"got {column.meaning!r:.80}")  # fmt: skip
    if column.written not in (*values.DATE_FORMATS, "time of day", "seconds"):
        raise ValueError(f"column {column.name!r}: needs a known way to write dates, got {column.written!r:.80}")
    return column


def matched(table: Table, columns: Sequence[Column]) -> list[Column]:
    """Return columns of a model as a new table writes them: its decimal mark, its dates, and what is in doubt there."""
    names = [column.name for column in columns]
    seen = values.evidence(table, names)
    commas = sum(column.decimal == "," for column in columns if column.meaning == "numeric")
    points = sum(column.decimal == "." for column in columns if column.meaning == "numeric")
    preferred = "," if commas > points else "." if points > commas else table.decimal
    marks, unsure = values.decimal_marks({name: seen[name] for name in names}, preferred)
    found = []
    for column in columns:
        mark, own = marks[column.name], seen[column.name]
        was_open = meanings.EITHER_WAY in column.why
        column = replace(column, decimal=mark, plain=mark == "." and own.all(own.plain), why="")
        stored = table.columns[column.name]
        if column.name in unsure:
            column = meanings.with_doubt(table, column)
        if column.meaning == "date" and own.there and stored.kind in ("text", "number"):
            same = values.is_written(table, stored, column.written)
            other = None if same and not was_open else values.date_format(table, stored, own.there, on_request=True)
            column = meanings.of_dates(column, *other) if other else column
        found.append(column)
    return found


def fitted(
    found: Mapping[str, Values],
    columns: Mapping[str, Column],
    fitted_targets: tuple[Target, ...],
    rows: NDArray[np.int64],
    roles: Mapping[str, str],
    name: str,
) -> Preprocessing:
    """Learn from the training rows how to encode a table.

    Parameters
    ----------
    found
        The values of the columns that may become inputs.
    columns
        What all columns mean that have no other role.
    fitted_targets
        What is predicted.
    rows
        The indices of the training rows.
    roles
        Columns that are no inputs, and why: see `columns.Asked.roles`.
    name
        What messages call the table.
    """
    used: list[Column] = []
    inputs: list[Input] = []
    left_out = {column: why for column, why in roles.items() if why != "target"}
    for column in columns.values():
        if column.name not in found:
            left_out[column.name] = column.why if column.meaning != "identifier" else f"identifier: {column.why}"
            continue
        how = encoders.fitted(found[column.name], rows)
        if isinstance(how, str):
            left_out[column.name] = how
        else:
            used.append(column)
            inputs.append(how)
    ids = [column for column, why in roles.items() if why.startswith("an identifier")]
    ids += [column.name for column in columns.values() if column.meaning == "identifier"]
    if not inputs:
        reasons = "; ".join(f"{column!r}: {reason}" for column, reason in islice(left_out.items(), 5))
        names = shorten([target.name for target in fitted_targets])
        raise ValueError(f"{name}: no column to learn from beside the target {names}" + (reasons and f" ({reasons})"))
    return Preprocessing(tuple(used), tuple(inputs), fitted_targets, left_out, tuple(ids))


def taken(found: Values, rows: NDArray[np.int64]) -> Values:
    """Return the values of some rows."""
    return replace(found, array=found.array[rows])


def unseen(found: Values, each: CategoryInput) -> NDArray[np.bool_]:
    """Return where a column has a word that no training row had, (n,)."""
    known = set(each.words)
    of_word = np.array([*(word not in known for word in found.words), True, False])
    result: NDArray[np.bool_] = of_word[np.where(found.array == UNKNOWN, len(found.words), found.array)]
    return result
