"""Targets scaled to mean 0 and standard deviation 1 for training, and what has learned them in their own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.spread import mean_and_deviation

_ROUNDING = np.finfo(np.float64).eps
"""The relative spread that rounding gives to a constant, at most, for each row: scikit-learn's bound"""


@dataclass(frozen=True, slots=True, eq=False)
class TargetScale:
    """What is taken from each column of the targets, and what it is then divided by, (n_outputs,) each.

    Examples
    --------
    >>> scale = TargetScale.of(np.array([[10.0], [30.0]]))
    >>> scale.scaled(np.array([[10.0], [20.0]])).ravel(), scale.unscaled(np.array([[1.0]])).ravel()
    (array([-1.,  0.]), array([30.]))
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, targets: NDArray[Any], weight: NDArray[Any] | None = None) -> TargetScale:
        """Return the scale of these targets, (n, n_outputs); what is constant where it has weight is only moved."""
        columns = targets.astype(np.float64)
        if weight is not None:
            columns, weight = columns[weight > 0], weight[weight > 0]
        mean, spread = mean_and_deviation(columns, weight)
        constant = columns.min(axis=0) == columns.max(axis=0)
        constant |= spread <= len(columns) * _ROUNDING * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, spread))

    def scaled(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Return targets as a network is to learn them."""
        scaled: NDArray[Any] = (targets - self.mean) / self.deviation
        return scaled

    def unscaled(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return outputs of such a network in the units of the targets, of the same dtype."""
        return (outputs * self.deviation + self.mean).astype(outputs.dtype)

    def unscale_layer(self, weights: NDArray[Any], biases: NDArray[Any]) -> None:
        """Let a last layer, (n_in, n_outputs) and (n_outputs,), give outputs in the units of the targets."""
        weights *= self.deviation
        biases[...] = self.unscaled(biases)

    def scale_layer(self, weights: NDArray[Any], biases: NDArray[Any]) -> None:
        """Take `unscale_layer` back."""
        weights /= self.deviation
        biases[...] = self.scaled(biases)
