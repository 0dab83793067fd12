"""Derivatives of the outputs, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from backprop.base.types import RealArray

if TYPE_CHECKING:
    from backprop.model.model import Model


def jacobian(network: Model, X: ArrayLike) -> RealArray:
    """Return the derivatives of the outputs with respect to the inputs; `Network.jacobian` documents it."""
    rows = network._features(X)
    n, n_outputs = len(rows), network.n_outputs
    J: RealArray = np.empty((n, n_outputs, network.n_inputs), rows.dtype)
    for output in range(n_outputs):
        J[:, output] = _slopes(network, rows, output)
    return J


def _slopes(network: Model, X: RealArray, output: int) -> RealArray:
    """Return the derivatives of one output with respect to X, (n, n_inputs)."""
    slopes: RealArray = np.empty_like(X)

    def head(outputs: RealArray) -> RealArray:
        ones = np.zeros_like(outputs)
        ones[:, output] = 1
        return ones

    network._core.backward(network._plan, network._parameters, X, head, None, slopes)
    return slopes
