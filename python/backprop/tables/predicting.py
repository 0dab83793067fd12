"""What a model says about the rows of a table, and how well that hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.tables import scores
from backprop.tables.preparing import weights_of
from backprop.tables.scores import Scores
from backprop.tables.table import Table
from backprop.tables.targets import Target, said_unknown, truth_of


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says about the rows of a table.

    Parameters
    ----------
    table
        The rows.
    outputs
        Of the network of each target, (n, n_outputs).
    values
        The predictions for each target, (n,): labels, or numbers.
    missing
        Column name to number of missing cells.
    unknown
        Column name to categories that no training row had, and how often.
    notes
        What could be read otherwise: dates, decimal marks.
    """

    table: Table = field(repr=False)
    outputs: Mapping[str, NDArray[Any]]
    values: Mapping[str, NDArray[Any]]
    missing: Mapping[str, int]
    unknown: Mapping[str, Counter[str]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """How well a model did on rows with the truth.

    Parameters
    ----------
    scores
        By the names of `backprop.metrics`.
    n_rows
        How many rows are in them.
    unknown, first_unknown
        Labels that no training row had, how often; row and label of the first one. Their rows are not in the scores.
    """

    scores: Scores
    n_rows: int
    unknown: Counter[str]
    first_unknown: tuple[int, str] | None


def scored(prediction: Prediction, target: Target, weight: str | None, threshold: float | None) -> Scored:
    """Compare predictions with the target that their table has; `weight` is a column of it."""
    truth, table = truth_of(prediction.table, target), prediction.table
    rows = np.flatnonzero(truth.known)
    if not len(rows):
        if truth.unknown:
            raise ValueError(said_unknown(target.name, truth.unknown, truth.first_unknown))
        raise ValueError(f"column {target.name!r} is empty")
    weights = scores.some_weights(None if weight is None else weights_of(table, weight), rows)
    found = scores.measured(target, prediction.outputs[target.name][rows], truth.encoded[rows], weights, threshold)
    return Scored(found, len(rows), truth.unknown, truth.first_unknown)
