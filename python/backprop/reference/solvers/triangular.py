"""Triangular matrices, row by row: whatever the sizes of their elements, no pivot is taken for 0."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.floating[Any]]


def solve_factorised(L: Matrix, b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the x with ``L L^T x = b`` for a lower triangle L (n, n) and b (n,)."""
    x = b.copy()
    for i in range(len(x)):
        x[i] = (x[i] - L[i, :i] @ x[:i]) / L[i, i]
    for i in reversed(range(len(x))):
        x[i] = (x[i] - L[i + 1 :, i] @ x[i + 1 :]) / L[i, i]
    return x


def inverse_of(L: Matrix) -> Matrix:
    """Return the inverse of a lower triangle L (n, n)."""
    inverse = np.zeros_like(L)
    for i in range(len(L)):
        inverse[i, :i] = -(L[i, :i] @ inverse[:i, :i]) / L[i, i]
        inverse[i, i] = 1 / L[i, i]
    return inverse
