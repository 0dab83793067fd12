"""Rows that the members of an ensemble draw with replacement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from backprop.base.types import RealArray
from backprop.sklearn.rows import UnluckyRowsError, counts

MOST_DRAWS = 1000
"""Where a single row has weight, the first of them is in vain in 37 % of all cases, all of them never."""


def draw(
    members: Sequence[Any], X: Any, y: NDArray[Any], weight: RealArray | None, random: np.random.RandomState
) -> list[NDArray[Any]]:
    """Return the rows that each member draws, as many as there are.

    It draws again where it could not learn from them, since none has weight, or with early stopping none in one part.
    """
    n_rows = y.shape[0]
    of_rows = _weights_of(members[0], X, y, weight)
    drawn: list[NDArray[Any]] = []
    for member in members:
        for _ in range(MOST_DRAWS):
            rows: NDArray[Any] = random.randint(0, n_rows, n_rows)  # type: ignore[assignment]
            if of_rows is None or (counts(of_rows[rows]) and _suits(member, X, y, weight, rows)):
                break
        else:
            raise ValueError(
                f"members: needs draws of {n_rows} rows with a weight > 0 for 'bootstrap', got none in {MOST_DRAWS} "
                "draws from which a member can learn"
            )
        drawn.append(rows)
    return drawn


def _weights_of(member: Any, X: Any, y: NDArray[Any], weight: RealArray | None) -> RealArray | None:
    """Return the weights of all samples as a member would have them, those of their classes included."""
    like = clone(member)
    like._learned(y, incremental=False)
    of_rows: RealArray | None = like._weights("sample_weight", weight, y, like._working_dtype(X.dtype))
    like._check_counting("learned from", of_rows, "sample_weight", weight)
    return of_rows


def _suits(member: Any, X: Any, y: NDArray[Any], weight: RealArray | None, rows: NDArray[Any]) -> bool:
    """Return whether a member can learn from these rows."""
    try:
        of_rows = None if weight is None else weight[rows]
        clone(member)._prepared(X[rows], y[rows], of_rows, (None, None, None), incremental=False)
    except UnluckyRowsError:
        return False
    return True
