"""Losses of positive outputs: deviances of counts."""

# NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from backprop.reference.activations import Array
from backprop.reference.losses.loss import Loss, x_log_y

__all__ = ["Poisson"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(Loss):
    """``a - y + y * log(y / a)``, without the logarithm where ``y == 0``: fits rates ``a`` of counts ``y >= 0``.

    Half of scikit-learn's ``mean_poisson_deviance``; PyTorch's ``PoissonNLLLoss`` differs from it by a term that
    depends on the targets only. Needs an output that is positive: ``exp``, with which it is computed from the raw
    scores, or ``softplus``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Poisson().outputs
    ('exp', 'softplus')
    """

    name: ClassVar[str] = "poisson"
    formula: ClassVar[str] = "a - y + y * log(y / a)"
    scores_of: ClassVar[str | None] = "exp"
    outputs: ClassVar[tuple[str, ...] | None] = ("exp", "softplus")
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def value(self, a: Array, y: Array) -> Array:
        """``a - y + y log(y / a)``: minus the log-likelihood of the rate ``a`` after ``y`` events, 0 at ``a = y``."""
        return a - y + x_log_y(y, y / np.where(y == 0, 1, a))

    def gradient(self, a: Array, y: Array) -> Array:
        """``1 - y / a``."""
        return 1 - y / a

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``exp(z) - y + y (log(y) - z)``."""
        return np.exp(z) - y + y * (np.log(np.where(y == 0, 1, y)) - z)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``a - y``."""
        return a - y
