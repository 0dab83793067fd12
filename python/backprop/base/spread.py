"""Mean and standard deviation of numbers of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean_and_deviation(values: NDArray[np.float64], weight: NDArray[Any] | None = None) -> tuple[Any, Any]:
    """Return mean and standard deviation of numbers, (n,), or of each column, (n, n_columns).

    Parameters
    ----------
    values
        (n,) or (n, n_columns).
    weight
        Weights > 0 of the rows, (n,); None for equal ones.

    Examples
    --------
    >>> [float(each) for each in mean_and_deviation(np.array([1e-200, 3e-200]))]
    [2e-200, 1e-200]
    """
    mean = np.average(values, axis=0, weights=weight)
    deviations = values - mean
    # In units of the largest deviation, for squares of tiny numbers vanish, and those of huge ones are infinite.
    largest = np.abs(deviations).max(axis=0)
    squares = np.square(deviations / np.where(largest > 0, largest, 1.0))
    return mean, largest * np.sqrt(np.average(squares, axis=0, weights=weight))
