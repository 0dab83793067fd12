"""Predictions as files: CSV or Parquet, beside the columns that are kept, in one piece or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.atomic import write_atomically
from backprop.base.text import shortest
from backprop.tables import engine, frames, scores
from backprop.tables.targets import Labels

if TYPE_CHECKING:
    from backprop.tables.model import TableModel
    from backprop.tables.predicting import Prediction


def columns_of(model: TableModel, found: Prediction, *, proba: bool, texts: bool) -> dict[str, NDArray[Any]]:
    """Return the predictions by the names of their columns: ``prediction``, and ``probability_LABEL``.

    With several targets ``prediction_TARGET`` and ``probability_TARGET_LABEL``; `texts`: with labels as texts.
    """
    assert model.preprocessing is not None
    columns: dict[str, NDArray[Any]] = {}
    for target in model.preprocessing.targets:
        own = "" if len(found.values) == 1 else f"_{target.name}"
        said = found.values[target.name]
        if isinstance(target, Labels) and texts:  # as the training rows had them
            classes = scores.classes(target, found.outputs[target.name], model.settings.threshold)
            said = np.array(target.labels)[classes]
        columns[f"prediction{own}"] = said
        if proba and isinstance(target, Labels):
            for k, label in enumerate(target.labels):
                columns[f"probability{own}_{label}"] = found.outputs[target.name][:, k]
    return columns


def written(
    model: TableModel, found: Prediction, keep: Sequence[str] = (), *, proba: bool = False,
    path: str | os.PathLike[str] | None = None,
) -> bytes:  # fmt: skip
    """Return predictions as CSV; where a path is given, they are written there.

    Parameters
    ----------
    model, found
        The model, and what it said.
    keep
        Columns of the table that come first.
    proba
        Whether to add the probabilities of the classes.
    path
        A file, which is replaced in one piece; Parquet where its name ends in ``.parquet``.

    Raises
    ------
    OSError
        If the file cannot be written; what was there before is then still there.
    """
    parquet = path is not None and Path(path).suffix.lower() == ".parquet"
    columns = columns_of(model, found, proba=proba, texts=not parquet)
    for name in keep:
        found.table.column(name, "column to keep")
        if name in columns:
            raise ValueError(f"keep: a column {name!r} would stand beside the one of that name with predictions")
    data = _parquet(found, keep, columns) if parquet else _csv(found, keep, columns)
    if path is not None:
        write_atomically(path, data)
    return data


def _csv(found: Prediction, keep: Sequence[str], columns: dict[str, NDArray[Any]]) -> bytes:
    kept = {name: f"CAST({found.table.columns[name].sql} AS VARCHAR)" for name in keep}
    first = [array.filled("") if isinstance(array, np.ma.MaskedArray) else array
             for array in (found.table.arrays(kept) if kept else {}).values()]  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keep, *columns])
    writer.writerows(zip(*first, *map(_cells, columns.values()), strict=True))
    return text.getvalue().encode()


def _cells(values: NDArray[Any]) -> Iterable[Any]:
    """Return predictions in a form that is written with all of its digits."""
    return map(shortest, values) if values.dtype.kind == "f" else values


def _parquet(found: Prediction, keep: Sequence[str], columns: dict[str, NDArray[Any]]) -> bytes:
    kept = found.table.arrays({name: found.table.columns[name].sql for name in keep}) if keep else {}
    arrays = {**kept, **columns}
    connection = engine.connect(found.table.limits)
    short = frames.arrays_of({f"c{k}": array for k, array in enumerate(arrays.values())})
    connection.register("predictions", short)
    chosen = ", ".join(f"c{k} AS {engine.quoted(name)}" for k, name in enumerate(arrays))
    with tempfile.TemporaryDirectory(prefix="backprop-") as folder:
        path = os.path.join(folder, "predictions.parquet")
        with engine.errors("predictions"):
            connection.execute(f"COPY (SELECT {chosen} FROM predictions) TO {engine.literal(path)} (FORMAT parquet)")
        return Path(path).read_bytes()
